"""Calculation jobs and the parameters they validate before submission."""
