"""Tests of the files shipped beside the code: documents, rules, dashboards, units."""
