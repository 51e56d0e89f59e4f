"""How the dashboard looks and how its server behaves, as Streamlit options. No file outside the package decides it."""

from __future__ import annotations

from typing import Any

LIGHT = {
    "primaryColor": "#0B6E6E",
    "backgroundColor": "#FFFFFF",
    "secondaryBackgroundColor": "#F3F6F7",
    "textColor": "#15232B",
    "linkColor": "#0B6E6E",
    "borderColor": "#D5DEE2",
    "codeBackgroundColor": "#F3F6F7",
    "codeTextColor": "#2B4450",
    "dataframeBorderColor": "#DDE5E8",
    "dataframeHeaderBackgroundColor": "#F3F6F7",
}
DARK = {
    "primaryColor": "#1A9191",
    "backgroundColor": "#0F171B",
    "secondaryBackgroundColor": "#18242A",
    "textColor": "#E4ECEF",
    "linkColor": "#5CC8C4",
    "borderColor": "#2B3B43",
    "codeBackgroundColor": "#18242A",
    "codeTextColor": "#C5D6DC",
    "dataframeBorderColor": "#2B3B43",
    "dataframeHeaderBackgroundColor": "#18242A",
}
SHARED: dict[str, Any] = {
    "baseRadius": "6px",
    "buttonRadius": "6px",
    "baseFontSize": 15,
    "headingFontSizes": ["1.8rem", "1.35rem", "1.12rem", "1rem", "0.9rem", "0.85rem"],
    "headingFontWeights": [650, 600, 600, 600, 600, 600],
    "metricValueFontSize": "1.55rem",
    "showWidgetBorder": True,
    "showSidebarBorder": True,
    "linkUnderline": False,
    "paddingTop": "1rem",
    "paddingBottom": "4rem",
}


def theme_options() -> dict[str, Any]:
    """The options `theme.*`: one look, light and dark, that a reader can switch."""
    options = {f"theme.{name}": value for name, value in SHARED.items()}
    options.update({f"theme.light.{name}": value for name, value in LIGHT.items()})
    options.update({f"theme.dark.{name}": value for name, value in DARK.items()})
    return options


def server_options(host: str, port: int, *, allowed_hosts: list[str]) -> dict[str, Any]:
    """The options of the server: one port, nothing sent anywhere, no file watching."""
    return {
        "server.address": host,
        "server.port": port,
        "server.headless": True,
        "server.allowedHosts": allowed_hosts,
        "server.fileWatcherType": "none",
        "server.runOnSave": False,
        "server.showEmailPrompt": False,
        "server.enableAgentApi": False,
        # Our pages draw nothing by bare expressions; and two threads that rewrite scripts at once trip over each other
        # in Python 3.11 ("AST constructor recursion depth mismatch").
        "runner.magicEnabled": False,
        # A full collection after each run of a page, and of each part of one, takes 0.4 s once the maps' packages are
        # there, in which no other thread does anything. Python collects when enough has changed (see `asgi.settle`).
        "runner.postScriptGC": False,
        "browser.gatherUsageStats": False,
        "client.toolbarMode": "viewer",
        "client.showErrorLinks": False,
        # A traceback tells strangers how this machine's disk is laid out: it goes to the server's log only.
        "client.showErrorDetails": "none",
        "logger.hideWelcomeMessage": True,
    }
