"""Detectors: one score per sample, higher = more memorized. None is registered yet."""
