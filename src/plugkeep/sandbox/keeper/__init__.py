"""The keeper, as its host sees it: the small process that is the parent of all that runs beside it.

What runs in that itself is `plugkeep.keeper`.
"""
