from allencv.common.safe_globals import add_safe_globals

add_safe_globals()
