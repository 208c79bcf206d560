"""Tests of `timeline`."""
