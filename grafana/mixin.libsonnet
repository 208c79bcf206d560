// Prometheus mixin: rules and dashboards for jsonnet, see monitoring.mixins.dev. `make mixin` copies this file.
{
  _config+:: {
    // Addresses of your runbooks and of your Grafana, which the alerts link to.
    runbookUrl: 'https://runbooks.example',
    grafanaUrl: 'https://grafana.example',
  },

  local replaced(text) = std.strReplace(
    std.strReplace(text, 'https://runbooks.example', $._config.runbookUrl),
    'https://grafana.example',
    $._config.grafanaUrl
  ),

  prometheusAlerts+:: {
    groups+: std.parseJson(replaced(importstr 'prometheus_alerts.json')).groups,
  },
  prometheusRules+:: {
    groups+: (import 'prometheus_rules.json').groups,
  },
  grafanaDashboards+:: {
    'qemu-migration-fleet.json': import 'dashboards/fleet.json',
    'qemu-migration-one.json': import 'dashboards/one-migration.json',
    'qemu-migration-exporter-health.json': import 'dashboards/exporter-health.json',
  },
}
