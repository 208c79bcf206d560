"""Migrations as people and scripts see them: the only package that makes sentences and commands.

    core records --view_builder--> view --> wording/, advice, downtime, rounds   (shared sentences and rows)
                                    |
                                    +--> text/      report for a terminal          } `reports.REPORTS`
                                    +--> html/      landing page, report           } of `replay`
                                    +--> document   JSON of the report and the API }
                                    +--> terminal/  frames of `watch`

A view is made when somebody reads it. A new format is one function in `reports` that renders a `Report`.
"""
