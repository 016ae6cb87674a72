"""Models of users that are there from the start of the project until the end of a test."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.contrib.auth.models import User
from django.db.models.signals import post_delete, post_save, pre_save

from django_sse import revocation

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["user_model"]

RECEIVERS = [
    (pre_save, revocation._user_to_be_saved),
    (post_save, revocation._user_saved),
    (post_delete, revocation._user_deleted),
]


@contextmanager
def user_model(name: str, *, proxy: bool = True, **fields: Any) -> Iterator[Any]:
    """A proxy of the users, or a model that extends them by ``fields``, with what the package hears of it."""
    meta = type("Meta", (), {"app_label": "shop", "proxy": proxy})
    made: Any = type(name, (User,), {"Meta": meta, "__module__": __name__, **fields})
    revocation.connect()
    try:
        yield made
    finally:
        heard = [signal.disconnect(receiver, sender=made) for signal, receiver in RECEIVERS]
        del apps.all_models["shop"][name.lower()]
        apps.clear_cache()
    assert heard == [True] * len(RECEIVERS), "the package did not hear of this model"
