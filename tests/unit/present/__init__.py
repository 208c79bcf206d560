"""Tests of `present`."""
