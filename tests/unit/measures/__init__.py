"""Tests of `measures`."""
