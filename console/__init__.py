"""The console: HTTP API, webhooks and pages over `ops/`, for the `web` process. Nothing is served from here yet."""
