"""Source of the Grafana dashboards; `make dashboards` writes their JSON to dashboards/.

    fleet.py, migration.py, health.py   rows of panels, with their queries
    durations.py                        the row of Fleet about durations
    sentences.py, ends.py               verdicts and both ends as text, made by PromQL
    panels.py                           the kinds of panels: stat, graph, timeline, table
    builder.py                          the JSON that Grafana loads, with the dashboards' variables in every selector

The builder is about 250 lines and replaces grafana-foundation-sdk. The SDK ties every dashboard to one Grafana release,
its version numbers sort wrongly in pip, and it neither sets panel ids nor checks anything. Grafana's own schema and the
rules in tests/project/test_dashboards.py check more than the SDK's types would.
"""
