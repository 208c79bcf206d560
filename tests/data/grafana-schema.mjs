// How grafana-schema.json was made, of the types that Grafana publishes for what its dashboards and panels look like:
//     npm install @grafana/schema@13.2.3 ts-json-schema-generator@2.4.0
//     node grafana-schema.mjs > grafana-schema.json
// It is committed, and not made in every run: the npm packages are 38 MB for 67 kB that change with Grafana's releases.
import { createGenerator } from "ts-json-schema-generator";

const types = "node_modules/@grafana/schema/dist/types/raw";

function schema(path, type) {
  const options = { path: `${types}/${path}`, type, skipTypeCheck: true, jsDoc: "none" };
  return createGenerator(options).createSchema(type);
}

const all = { dashboard: schema("dashboard/x/types.gen.d.ts", "Dashboard") };
for (const [panel, parts] of Object.entries({
  heatmap: ["options", "custom"],
  stat: ["options"],
  statetimeline: ["options", "custom"],
  table: ["options", "custom"],
  timeseries: ["options", "custom"],
})) {
  const path = `composable/${panel}/panelcfg/x/types.gen.d.ts`;
  all[panel] = Object.fromEntries(
    parts.map((part) => [part, schema(path, part === "options" ? "Options" : "FieldConfig")]),
  );
}
console.log(JSON.stringify(all, null, 1));
