"""Who is logged in."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.test import AsyncClient

__all__ = ["logged_in"]


async def logged_in(name: str = "ann", **fields: Any) -> tuple[User, AsyncClient]:
    """Return a new user, and a client in whose session they are logged in."""
    user = await User.objects.acreate_user(name, password="before", **fields)
    client = AsyncClient()
    await client.aforce_login(user)
    return user, client
