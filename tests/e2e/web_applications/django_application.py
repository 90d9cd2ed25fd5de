"""A Django project in one file, by ASGI and by WSGI."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import (
    FileResponse,
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.urls import path, reverse

if not settings.configured:
    settings.configure(
        ROOT_URLCONF=__name__,
        SECRET_KEY="for tests only",
        ALLOWED_HOSTS=["*"],
        LOGGING_CONFIG=None,
        MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
        USE_TZ=True,
    )
    django.setup(set_prefix=False)


def echo(request: HttpRequest, rest: str = "") -> JsonResponse:
    return JsonResponse(
        {
            "method": request.method,
            "path": request.path,
            "path_info": request.path_info,
            "query": request.META["QUERY_STRING"],
            "headers": sorted(request.headers.items()),
            "cookies": request.COOKIES,
            "base": request.build_absolute_uri(),
            "body": request.body.decode("latin-1"),
            "rest": rest,
        }
    )


def form(request: HttpRequest) -> JsonResponse:
    files = [
        [key, each.name, each.content_type, each.read().decode("latin-1")]
        for key, found in request.FILES.lists()
        for each in found
    ]
    return JsonResponse({"fields": [*request.POST.lists()], "files": files})


def redirect(request: HttpRequest) -> HttpResponseRedirect:
    return HttpResponseRedirect(reverse("echo"))


def cookies(request: HttpRequest) -> HttpResponse:
    response = HttpResponse(b"", headers={"X-Kind": "cookies"})
    response.set_cookie("one", "1", httponly=True)
    response.set_cookie("two", "2; odd", samesite="Strict")
    return response


def stream(request: HttpRequest) -> StreamingHttpResponse:
    async def later() -> AsyncIterator[bytes]:
        for n in range(20):
            yield b"%d," % n

    def now() -> Iterator[bytes]:
        yield from (b"%d," % n for n in range(20))

    pieces: Any = later() if hasattr(request, "scope") else now()
    return StreamingHttpResponse(pieces, content_type="text/plain")


def file(request: HttpRequest) -> FileResponse:
    content = Path(__file__).with_name("blob.txt").open("rb")
    response = FileResponse(content)
    if hasattr(request, "scope"):  # else Django warns that it reads a plain iterator as a whole
        with content:
            return HttpResponse(content.read(), headers=dict(response.headers.items()))
    return response


def missing(request: HttpRequest) -> HttpResponse:
    raise Http404("not here")


def broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("before the response")


urlpatterns = [
    path("", echo, name="echo"),
    path("echo/<path:rest>", echo),
    path("form", form),
    path("redirect", redirect),
    path("cookies", cookies),
    path("stream", stream),
    path("file", file),
    path("missing", missing),
    path("broken", broken),
]


class Asgi:
    name = "django"
    application = get_asgi_application()

    def start(self) -> None: ...
    def stop(self) -> None: ...


class Wsgi:
    name = "django-wsgi"
    application = get_wsgi_application()

    def start(self) -> None: ...
    def stop(self) -> None: ...
