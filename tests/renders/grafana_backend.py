"""The few answers of Grafana's server that its own frontend needs to draw a dashboard, from a real Prometheus.

The frontend is Grafana's built `public/` folder, given by path. Queries are answered as Grafana's Prometheus plugin
does it: `$__interval` and `$__rate_interval`, legends, instant, range, exemplars. There is no login, no provisioning
and no alerting.

    browser ─/public/…─> files of Grafana ;  /d/UID ─> the page with its boot data
            ─/api/ds/query─> Prometheus, as data frames ;  /api/dashboards/uid/UID ─> grafana/dashboards/*.json
"""

from __future__ import annotations

import json
import math
import mimetypes
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from grafana.__main__ import DIRECTORY
from tests.renders.backend_server import BackendHandler, BackendServer, serving

Json = dict[str, Any]

_PERMISSIONS: Final = dict.fromkeys(
    ("datasources:explore", "dashboards:read", "datasources:read", "datasources:query", "annotations:read"), True
)
_TIMEOUT_SECONDS: Final = 30

#: Upper bound of an interval in s, and what Grafana rounds it to.
_ROUNDED: Final = (
    (0.35, 0.2), (0.75, 0.5), (1.5, 1), (3.5, 2), (7.5, 5), (12.5, 10), (17.5, 15), (25, 20), (45, 30), (90, 60),
    (210, 120), (450, 300), (750, 600), (1050, 900), (1500, 1200), (2700, 1800), (5400, 3600), (9000, 7200),
)  # fmt: skip
_UNITS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class Backend:
    """A server of Grafana's frontend.

    Attributes:
        public: Grafana's folder `public`, with `build` and `app/plugins`.
        prometheus: URL.
        scrape_seconds: The data source's scrape interval.
    """

    public: Path
    prometheus: str
    scrape_seconds: float

    def page(self, theme: str) -> bytes:
        """Build the page that starts the frontend."""
        manifest = json.loads((self.public / "build" / "assets-manifest.json").read_text())["entrypoints"]
        scripts, styles = manifest["app"]["assets"]["js"], manifest["app"]["assets"]["css"]
        dark, light = (manifest[name]["assets"]["css"][0] for name in ("dark", "light"))
        assets = {
            "jsFiles": [{"filePath": path, "integrity": ""} for path in scripts],
            "cssFiles": [],
            "dark": dark,
            "light": light,
            "contentDeliveryURL": "",
        }
        boot = {"user": _user(theme), "settings": self._settings(), "navTree": [], "assets": assets}
        links = "".join(f'<link rel="stylesheet" href="{path}"/>' for path in (*styles, assets[theme]))
        loads = "".join(f'<script src="{path}" defer></script>' for path in scripts)
        return (
            f'<!DOCTYPE html><html lang="en-US"><head><meta charset="utf-8"/><base href="/"/>{links}</head>'
            f'<body class="theme-{theme} app-grafana"><div class="preloader"></div><div id="reactRoot"></div>'
            f"<script>window.grafanaBootData={json.dumps(boot)};"
            "window.__grafana_boot_data_promise=Promise.resolve();window.__grafana_load_failed=function(){};</script>"
            f"{loads}</body></html>"
        ).encode()

    def _plugins(self, kind: str) -> dict[str, Json]:
        found = {}
        for path in self.public.glob(f"app/plugins/{kind}/*/plugin.json"):
            plugin, folder = json.loads(path.read_text()), path.parent.name
            base = f"public/app/plugins/{kind}/{folder}"
            info = {"links": [], "version": "", "updated": "", **plugin.get("info", {})}
            info["logos"] = {size: f"{base}/{file}" for size, file in info.get("logos", {}).items()}
            has_module = (path.parent / "dist" / "module.js").exists()
            found[plugin["id"]] = {
                "dependencies": {},
                "hideFromList": False,
                "skipDataQuery": False,
                "state": "",
                **plugin,
                "angular": {"detected": False, "hideDeprecation": False},
                "baseUrl": base,
                "info": info,
                "loadingStrategy": "script",
                "module": f"{base}/dist/module.js" if has_module else f"core:plugin/{plugin['id']}",
                "signature": "internal",
                "sort": 100,
            }
        return found

    def _settings(self) -> Json:
        plugins = self._plugins("datasource")
        prometheus = {
            "httpMethod": "POST",
            "timeInterval": f"{self.scrape_seconds:g}s",
            "exemplarTraceIdDestinations": [{"name": "trace_id", "datasourceUid": "jaeger"}],
            "prometheusType": "Prometheus",
        }
        sources = {
            "Prometheus": _datasource(1, "Prometheus", "prometheus", plugins, prometheus),
            "Jaeger": _datasource(2, "Jaeger", "jaeger", plugins, {}),
            "-- Grafana --": _datasource(-1, "-- Grafana --", "grafana", plugins, {}),
            "-- Mixed --": _datasource(-100, "-- Mixed --", "mixed", plugins, {}),
            "-- Dashboard --": _datasource(-2, "-- Dashboard --", "dashboard", plugins, {}),
        }
        return {
            "anonymousEnabled": True,
            "apps": {},
            "appSubUrl": "",
            "auth": {},
            "buildInfo": {"version": "12.2.0", "versionString": "", "commit": "", "edition": "Open Source", "env": "production"},
            "dateFormats": {
                "defaultTimezone": "browser",
                "fullDate": "YYYY-MM-DD HH:mm:ss",
                "interval": {
                    "millisecond": "HH:mm:ss.SSS", "second": "HH:mm:ss", "minute": "HH:mm", "hour": "MM/DD HH:mm",
                    "day": "MM/DD", "month": "YYYY-MM", "year": "YYYY",
                },
                "useBrowserLocale": False,
            },
            "datasources": sources,
            "defaultDatasource": "Prometheus",
            "exploreEnabled": True,
            "featureToggles": {"dashboardScene": True},
            "licenseInfo": {"expiry": 0, "stateInfo": "", "edition": "Open Source", "enabledFeatures": {}},
            "liveEnabled": False,
            "namespace": "default",
            "panels": self._plugins("panel"),
            "rbacEnabled": True,
            "unifiedAlertingEnabled": False,
        }  # fmt: skip

    def ask(self, path: str, **parameters: str | float) -> Json:
        """Ask Prometheus."""
        body = urllib.parse.urlencode(parameters).encode()
        try:
            with urllib.request.urlopen(f"{self.prometheus}{path}", data=body, timeout=_TIMEOUT_SECONDS) as answer:
                result: Json = json.loads(answer.read())
        except urllib.error.HTTPError as error:
            result = json.loads(error.read() or b"{}")
        return result

    def query(self, question: Json, start: float, end: float) -> Json:
        """Answer one target of a panel with data frames."""
        step = max(_step((end - start) / question.get("maxDataPoints", 1_000)), self._least(question))
        expr = _filled_in(question["expr"], step, self.scrape_seconds, end - start)
        frames: list[Json] = []
        if question.get("range") or not question.get("instant"):
            first, last = (math.floor(time / step) * step for time in (start, end))
            answer = self.ask("/api/v1/query_range", query=expr, start=first, end=last, step=step)
            if answer["status"] != "success":
                return {"error": answer["error"], "status": 400, "frames": []}
            frames += _frames(question, answer["data"], step)
        if question.get("instant"):
            answer = self.ask("/api/v1/query", query=expr, time=end)
            if answer["status"] != "success":
                return {"error": answer["error"], "status": 400, "frames": []}
            frames += _frames(question, answer["data"], step)
        if question.get("exemplar"):
            answer = self.ask("/api/v1/query_exemplars", query=expr, start=start, end=end)
            frames += _exemplars(question["refId"], answer.get("data") or [])
        return {"status": 200, "frames": frames}

    def resource(self, path: str, parameters: dict[str, str]) -> object:
        """Answer requests of variables and of the query editor: labels, their values, metadata."""
        is_read = path.endswith("/values") or "metadata" in path or "buildinfo" in path
        body = urllib.parse.urlencode(parameters)
        url = f"{self.prometheus}{path}" + (f"?{body}" if is_read else "")
        with urllib.request.urlopen(url, data=None if is_read else body.encode(), timeout=_TIMEOUT_SECONDS) as answer:
            return json.loads(answer.read())

    def plugin(self, name: str) -> Json:
        """Return the metadata of a plugin."""
        return {**self._plugins("datasource"), **self._plugins("panel")}.get(name, {"id": name})

    def _least(self, question: Json) -> float:
        found = re.fullmatch(r"([\d.]+)(ms|s|m|h|d)", question.get("interval") or "")
        return float(found[1]) * _UNITS[found[2]] if found else self.scrape_seconds


def _user(theme: str) -> Json:
    return {
        "isSignedIn": False,
        "id": 0,
        "theme": theme,
        "lightTheme": theme == "light",
        "orgCount": 1,
        "orgId": 1,
        "orgName": "Main Org.",
        "orgRole": "Editor",
        "timezone": "browser",
        "locale": "en-US",
        "language": "en-US",
        "permissions": _PERMISSIONS,
        "analytics": {"identifier": ""},
    }


def _datasource(number: int, name: str, kind: str, plugins: dict[str, Json], settings: Json) -> Json:
    uid = kind if number > 0 or kind == "grafana" else name
    meta = {
        "id": kind,
        "name": kind,
        "type": "datasource",
        "info": {"logos": {}, "links": []},
        "module": "",
        "baseUrl": "",
    }
    return {
        "access": "proxy",
        "id": number,
        "isDefault": number == 1,
        "jsonData": settings,
        "meta": plugins.get(kind, meta),
        "name": name,
        "readOnly": True,
        "type": kind,
        "uid": uid,
        "url": f"/api/datasources/proxy/uid/{uid}",
    }


def _step(seconds: float) -> float:
    return next((rounded for bound, rounded in _ROUNDED if seconds < bound), 10_800)


def _duration(seconds: float) -> str:
    return f"{int(seconds)}s" if seconds == int(seconds) else f"{int(seconds * 1_000)}ms"


def _filled_in(expr: str, step: float, scrape: float, span: float) -> str:
    for name, value in {
        "__rate_interval": _duration(max(step + scrape, 4 * scrape)),
        "__interval": _duration(step),
        "__range": f"{int(span)}s",
    }.items():
        expr = re.sub(rf"\${{{name}}}|\${name}\b", value, expr)
    return expr


def _legend(question: Json, labels: dict[str, str]) -> str:
    form = question.get("legendFormat") or ""
    if form and form != "__auto":
        return re.sub(r"{{\s*(.+?)\s*}}", lambda label: labels.get(label[1], ""), form)
    return "" if form else question["expr"]


def _number(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _frames(question: Json, data: Json, step: float) -> Iterator[Json]:
    kind = data["resultType"]
    results = [{"metric": {}, "value": data["result"]}] if kind == "scalar" else data["result"]
    for series in results:
        values = series["values"] if kind == "matrix" else [series["value"]]
        name = _legend(question, series["metric"])
        shown = {"displayNameFromDS": name} if name else {}
        field = {
            "name": "Value",
            "type": "number",
            "typeInfo": {"frame": "float64"},
            "labels": series["metric"],
            "config": shown,
        }
        time = {
            "name": "Time",
            "type": "time",
            "typeInfo": {"frame": "time.Time"},
            "config": {"interval": step * 1_000},
        }
        meta = {
            "type": "timeseries-multi" if kind == "matrix" else "numeric-multi",
            "typeVersion": [0, 1],
            "custom": {"resultType": kind},
        }
        schema = {"refId": question["refId"], "meta": meta, "fields": [time, field], **({"name": name} if name else {})}
        columns = [[int(at * 1_000) for at, _ in values], [_number(value) for _, value in values]]
        yield {"schema": schema, "data": {"values": columns}}


def _exemplars(letter: str, found: list[Json]) -> Iterator[Json]:
    rows = [
        (exemplar["timestamp"], float(exemplar["value"]), {**series["seriesLabels"], **exemplar["labels"]})
        for series in found
        for exemplar in series["exemplars"]
    ]
    if not rows:
        return
    names = sorted({name for _, _, labels in rows for name in labels})
    fields = [
        {"name": "Time", "type": "time", "typeInfo": {"frame": "time.Time"}, "config": {}},
        {"name": "Value", "type": "number", "typeInfo": {"frame": "float64"}, "labels": {}, "config": {}},
        *({"name": name, "type": "string", "typeInfo": {"frame": "string"}, "config": {}} for name in names),
    ]
    columns: list[list[Any]] = [[int(at * 1_000) for at, _, _ in rows], [value for _, value, _ in rows]]
    columns += [[labels.get(name, "") for _, _, labels in rows] for name in names]
    schema = {"name": "exemplar", "refId": letter, "meta": {"custom": {"resultType": "exemplar"}}, "fields": fields}
    yield {"schema": schema, "data": {"values": columns}}


def _dashboard(uid: str) -> Json:
    """Return a dashboard as Grafana serves it, without its refresh: a picture is of one moment."""
    for path in DIRECTORY.glob("*.json"):
        dashboard = json.loads(path.read_text())
        if dashboard["uid"] == uid:
            meta = {
                "type": "db",
                "canSave": False,
                "canEdit": False,
                "slug": uid,
                "url": f"/d/{uid}/x",
                "version": 1,
                "folderUid": "",
            }
            meta["annotationsPermissions"] = {
                level: dict.fromkeys(("canAdd", "canEdit", "canDelete"), False)
                for level in ("dashboard", "organization")
            }
            return {"dashboard": {**dashboard, "id": 1, "refresh": ""}, "meta": meta}
    raise KeyError(uid)


def _search() -> list[Json]:
    loaded = [json.loads(path.read_text()) for path in sorted(DIRECTORY.glob("*.json"))]
    return [
        {
            "uid": found["uid"],
            "title": found["title"],
            "url": f"/d/{found['uid']}/x",
            "type": "dash-db",
            "tags": found["tags"],
        }
        for found in loaded
    ]


class _Handler(BackendHandler):
    """One request of the frontend."""

    server: BackendServer[Backend]

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
        self._answer(b"")

    def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
        self._answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def _answer(self, body: bytes) -> None:
        address = urllib.parse.urlparse(self.path)
        path = urllib.parse.unquote(address.path)
        if path.startswith("/public/"):
            self._file(path)
        elif path.startswith(("/api/", "/apis/")):
            parameters = dict(urllib.parse.parse_qsl(address.query))
            answer = _answer_api(self.server.backend, path, parameters, body)
            self.send(answer if isinstance(answer, bytes) else json.dumps(answer).encode(), "application/json")
        else:
            theme = "light" if "theme=light" in address.query else "dark"
            self.send(self.server.backend.page(theme), "text/html")

    def _file(self, path: str) -> None:
        public = self.server.backend.public.resolve()
        file = (public.parent / path.lstrip("/")).resolve()
        if not file.is_relative_to(public) or not file.is_file():
            self.send_error(404)
            return
        self.send(file.read_bytes(), mimetypes.guess_type(path)[0] or "application/octet-stream")


def _answer_api(backend: Backend, path: str, parameters: dict[str, str], body: bytes) -> object:
    """Answer a call of Grafana's API; one that no dashboard needs gets an empty answer."""
    match path.split("/")[2:]:
        case ["ds", "query"]:
            return _query(backend, json.loads(body))
        case ["datasources", "uid", "prometheus", "resources", *rest]:
            return backend.resource("/" + "/".join(rest), {**parameters, **dict(urllib.parse.parse_qsl(body.decode()))})
        case ["dashboards", "uid", uid, *_]:
            return _dashboard(uid)
        case ["plugins", name, *_]:
            return backend.plugin(name)
        case ["search"]:
            return _search()
        case ["access-control", "user", "actions"]:
            return _PERMISSIONS
        case ["annotations", *_]:
            return []
    return {}


def _query(backend: Backend, asked: Json) -> Json:
    start, end = int(asked["from"]) / 1_000, int(asked["to"]) / 1_000
    results = {
        target["refId"]: backend.query(target, start, end)
        for target in asked["queries"]
        if target["datasource"]["uid"] == "prometheus"
    }
    for letter, result in results.items():
        if "error" in result:
            print(f"query {letter} refused: {result['error']}")  # noqa: T201 - for the person who looks
    return {"results": results}


def serving_grafana(backend: Backend) -> AbstractContextManager[str]:
    """Serve the frontend at the URL that is yielded."""
    return serving(_Handler, backend)
