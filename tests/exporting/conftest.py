from tests.exporting.operators import read_operators_once

read_operators_once()
