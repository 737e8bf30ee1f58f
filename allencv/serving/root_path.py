from starlette.types import ASGIApp, Receive, Scope, Send


class BelowRootPath:
    """
    ASGI middleware that sets the path at which a proxy shows the server. Starlette then finds its
    routes with that path and without it.

    # Parameters

    root_path : such as "/pets", or "" for none.
    """

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "root_path": self._root_path}
        await self._app(scope, receive, send)
