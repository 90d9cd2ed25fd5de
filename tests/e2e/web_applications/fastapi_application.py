"""A FastAPI application with a lifespan, whose state its requests see."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, File, Form, Header, HTTPException, Request, UploadFile
from fastapi.responses import RedirectResponse
from pydantic import BaseModel


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    app.state.greeting = "hello"
    yield {"answer": 42}


app = FastAPI(lifespan=lifespan, title="sample")


class Item(BaseModel):
    name: str
    price: float


def token(x_token: Annotated[str, Header()] = "") -> str:
    if x_token == "wrong":
        raise HTTPException(401, "not you", headers={"www-authenticate": "Token"})
    return x_token


@app.get("/state")
async def state(request: Request) -> dict[str, Any]:
    return {"answer": request.state.answer, "greeting": request.app.state.greeting}


@app.get("/items/{number}")
def item(number: int, who: Annotated[str, Depends(token)], q: list[str] | None = None) -> Any:
    return {"number": number, "q": q, "token": who}


@app.post("/items", status_code=201)
async def add(item: Item) -> Item:
    return item


@app.post("/upload")
async def upload(
    note: Annotated[str, Form()], files: Annotated[list[UploadFile], File()]
) -> list[Any]:
    return [note, *[[each.filename, (await each.read()).decode()] for each in files]]


@app.get("/redirect")
async def redirect(request: Request) -> RedirectResponse:
    return RedirectResponse(request.url_for("state"), 303)


@app.get("/broken")
def broken() -> None:
    raise RuntimeError("in a plain function")


class PluginFactory:
    name = "fastapi"
    application = app

    def start(self) -> None: ...
    def stop(self) -> None: ...
