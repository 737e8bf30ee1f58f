from allencv.certainty.calibrations.calibration import Calibration
from allencv.certainty.calibrations.platt_scaling import PlattScaling
from allencv.certainty.calibrations.temperature_scaling import TemperatureScaling

__all__ = ["Calibration", "PlattScaling", "TemperatureScaling"]
