"""Evaluation of models on pairs: errors by the measures of `crystals.metrics`, and calibration of uncertainties."""
