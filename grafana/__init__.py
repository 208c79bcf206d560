"""The dashboards as readable Python; `make dashboards` writes them to dashboards/ as what Grafana loads.

A builder of our own and not grafana-foundation-sdk: what is needed of the JSON is some 200 lines, and they read as what
one sees. The SDK pins every dashboard to one release of Grafana under version numbers that pip orders wrongly, sets no
panel ids and checks nothing; Grafana's own schema, which tests/project/test_dashboards.py holds these to, checks more.
"""
