"""Tests of `stalls`."""
