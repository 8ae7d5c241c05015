"""The desk as one application: routes behind the doors, and what an error looks like."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI, Request
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from console.desk import asking_routes, keys_routes, office_routes, reading_routes, signing_routes
from console.desk.doors import App, Doors, Message, Receive, Send
from console.desk.pages import HERE, failure, refused_at_the_door, told
from console.desk.room import Room
from console.desk.signing_routes import ChangedError
from custody.errors import CustodyError

ROUTERS = tuple(found.router for found in (reading_routes, signing_routes, keys_routes, asking_routes, office_routes))


def make_app(room: Room, port: int, entered: Callable[[], None]) -> App:
    """Return the pages of `room` as served on `port`. entered: called when somebody used the link, which is spent."""
    pages = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    pages.state.room = room
    pages.state.entered = entered
    for router in ROUTERS:
        pages.include_router(router)
    pages.mount("/static", StaticFiles(directory=HERE / "static"))
    pages.add_exception_handler(ChangedError, signing_routes.changed_page)
    pages.add_exception_handler(CustodyError, _failed)
    pages.add_exception_handler(HTTPException, _not_found)

    async def refuse(scope: Message, receive: Receive, send: Send) -> None:
        scope["app"] = pages
        await refused_at_the_door(Request(scope, receive))(scope, receive, send)

    return Doors(pages, room.sessions, port, lambda: room.now, refuse)


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, CustodyError)  # noqa: S101 - registered for it
    return failure(request, error)


async def _not_found(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    return told(request, error.status_code, f"HTTP_{error.status_code}", str(error.detail))
