"""Presentation of migrations to operators and programs: the only package that makes sentences and commands.

    core records --view_builder--> view --> wording/, advice, downtime, rounds   (shared sentences and rows)
                                    |
                                    +--> text/      report for a terminal          } `reports.REPORTS`
                                    +--> html/      landing page, report           } of `replay`
                                    +--> document   JSON of the report and the API }
                                    +--> terminal/  frames of `watch`

Views are built on demand, when a report or page is read. A new format is one function in `reports` that renders a
`Report`.
"""
