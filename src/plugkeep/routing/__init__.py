"""Routes as data, and the table that knows whose they are. Pure: no I/O, no web framework.

`plugkeep.web` serves a table by ASGI or WSGI.
"""

from plugkeep.routing.providers import follow_routes as follow_routes
from plugkeep.routing.providers import register_route_providers as register_route_providers
from plugkeep.routing.route import Handler as Handler
from plugkeep.routing.route import Route as Route
from plugkeep.routing.table import RouteEntry as RouteEntry
from plugkeep.routing.table import RouteMatch as RouteMatch
from plugkeep.routing.table import RouteTable as RouteTable
