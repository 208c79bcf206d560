"""Tests of several parts together: real files, sockets and processes."""
