"""Tests of what ships beside the code: documents, rules, dashboards, units."""
