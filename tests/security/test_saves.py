"""What a save takes from a user, whatever way it is saved, and what that costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.core import serializers
from django.db import IntegrityError, OperationalError, connection, models, transaction
from django.test import AsyncClient
from django.urls import include, path

from django_sse import revocation
from django_sse.access import Rules, staff
from django_sse.control import CONTROL, Notice
from django_sse.models import Event
from django_sse.testing import listen
from tests.security.streams import farewell
from tests.security.user_models import user_model

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("committed")

urlpatterns = [path("events/", include("django_sse.urls"))]


@pytest.fixture(autouse=True)
def _settings(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    settings.DJANGO_SSE = {"POLL_INTERVAL": 0.1, "RECHECK": None, "AUTHORIZE": Rules({"staff.*": staff})}


@pytest.fixture
def boss() -> User:
    return User.objects.create_user("ann", password="before", is_staff=True, is_superuser=True)


def notices() -> list[Notice]:
    rows = Event.objects.filter(channel=CONTROL).order_by("pk")
    return [Notice.decode(text) for text in rows.values_list("data", flat=True)]


def asking(user: Any) -> Notice:
    return Notice("rights", frozenset({str(user.pk)}), ask=True)


def password(user: Any) -> Notice:
    return Notice("password", frozenset({str(user.pk)}), final=False)


async def test_a_stream_ends_at_once() -> None:
    user = await User.objects.acreate_user("ann", is_staff=True)
    client = AsyncClient()
    await client.aforce_login(user)
    async with listen(client, "/events/?channel=staff.a") as events:
        user.is_staff = False
        await user.asave()
        assert await farewell(events) == "denied"


@pytest.mark.parametrize("right", ["is_staff", "is_superuser"])
def test_a_right_that_is_taken_away(boss: User, right: str) -> None:
    setattr(boss, right, False)
    boss.save()
    assert notices() == [asking(boss)]
    boss.save()
    setattr(boss, right, True)
    boss.save()
    assert notices() == [asking(boss)]


def test_of_somebody_who_was_read_by_another_process_before(boss: User) -> None:
    """What the process remembers is not what counts, but what is stored."""
    stale = User.objects.get(pk=boss.pk)
    User.objects.filter(pk=boss.pk).update(is_staff=False)
    stale.is_superuser = False
    stale.is_staff = False
    stale.save()
    again = User(pk=boss.pk, username="ann", password=boss.password)
    assert notices() == [asking(boss)]
    again.save()
    assert notices() == [asking(boss)]


def test_a_hash_that_is_assigned(boss: User) -> None:
    boss.password = make_password("after")
    boss.save()
    assert notices() == [password(boss)]


def test_a_password_that_is_set_is_told_once(boss: User) -> None:
    boss.set_password("after")
    boss.save()
    boss.save()
    assert notices() == [password(boss)]


def test_a_user_who_is_deactivated_is_told_so(boss: User) -> None:
    boss.is_active = boss.is_staff = False
    boss.password = make_password("after")
    boss.save()
    assert notices() == [Notice("deactivated", frozenset({str(boss.pk)}))]


def test_some_fields_alone(boss: User) -> None:
    boss.save(update_fields=["password", "is_staff"])
    boss.is_staff = False
    boss.password = make_password("after")
    boss.save(update_fields=["first_name"])
    assert notices() == []
    boss.save(update_fields=["is_staff"])
    boss.save(update_fields=["password"])
    assert notices() == [asking(boss), password(boss)]


def test_one_that_was_read_in_part(boss: User, django_assert_num_queries: Any) -> None:
    """Django then saves what was read, as if these fields had been named."""
    part = User.objects.defer("last_name").get(pk=boss.pk)
    part.save()
    without = User.objects.defer("password").get(pk=boss.pk)
    with django_assert_num_queries(2):
        without.save()
    assert notices() == []
    without.is_staff = False
    without.save()
    assert notices() == [asking(boss)]


def test_what_it_costs(boss: User, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(2) as queries:
        boss.save()
    assert queries[0]["sql"].startswith("SELECT")
    with django_assert_num_queries(1):
        boss.save(update_fields=["last_login"])
    with django_assert_num_queries(1):
        User.objects.create(username="bob")


def test_a_save_in_a_transaction_that_is_rolled_back(boss: User) -> None:
    with transaction.atomic():
        boss.is_staff = False
        boss.save()
        transaction.set_rollback(True)
    assert notices() == []


def test_a_fixture_tells_nothing(boss: User, django_assert_num_queries: Any) -> None:
    boss.is_staff = False
    (loaded,) = serializers.deserialize("json", serializers.serialize("json", [boss]))
    with django_assert_num_queries(1):
        loaded.object.save_base(raw=True)
    assert notices() == []


def test_a_user_whose_row_has_vanished(boss: User) -> None:
    User.objects.filter(pk=boss.pk).delete()
    before = notices()
    boss.is_staff = False
    boss.save()
    assert User.objects.get().is_staff is False
    assert notices() == before


def test_a_save_that_fails_and_the_next(boss: User) -> None:
    User.objects.create_user("bob")
    boss.username, boss.is_staff = "bob", False
    with pytest.raises(IntegrityError), transaction.atomic():
        boss.save()
    boss.username = "ann"
    boss.save()
    assert notices() == [asking(boss)]


def test_a_save_within_a_save(boss: User) -> None:
    """Of a receiver that Django calls before ours, which then sees the inner save first."""
    arguments: dict[str, Any] = {
        "sender": User,
        "instance": boss,
        "raw": False,
        "using": "default",
        "update_fields": None,
    }
    revocation._user_to_be_saved(**arguments)
    boss.is_staff = False
    User.objects.filter(pk=boss.pk).update(is_staff=False)
    boss.save()
    revocation._user_saved(**arguments, created=False)
    assert notices() == [asking(boss)]
    assert revocation._STORED not in vars(boss)


@pytest.mark.parametrize("fields", [None, ["is_staff"], ["password"]])
def test_no_save_fails_for_it(
    boss: User, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fields: list[str] | None
) -> None:
    words = "of somebody's"

    def broken(user: Any) -> str:
        raise OperationalError(words)

    monkeypatch.setattr(revocation, "user_fingerprint", broken)
    boss.is_staff = False
    boss.save(update_fields=fields)
    assert User.objects.get().is_staff is (fields == ["password"])
    expected: dict[Any, list[Notice]] = {None: [], "is_staff": [asking(boss)], "password": [password(boss)]}
    assert notices() == expected[fields and fields[0]]
    assert words not in caplog.text
    assert ("could not be compared" in caplog.text) is (fields != ["is_staff"])


def test_nor_for_what_the_saved_one_raises(boss: User, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def broken(user: Any) -> str:
        calls.append(user)
        if user is boss:
            raise ValueError
        return ""

    monkeypatch.setattr(revocation, "user_fingerprint", broken)
    boss.save()
    assert boss in calls
    assert notices() == [asking(boss)], "to be on the safe side"


class Own:
    """A user model of a project's own, with rights that are no fields."""

    def __init__(self, *, admin: bool, nonce: str) -> None:
        self.pk, self.is_admin, self.nonce = 7, admin, nonce

    @property
    def is_staff(self) -> bool:
        return self.is_admin

    def get_session_auth_hash(self) -> str:
        return self.nonce


class Bare:
    """One with nothing of all that."""

    pk = 7


@pytest.mark.parametrize(
    ("stored", "saved", "expected"),
    [
        (Own(admin=True, nonce="a"), Own(admin=True, nonce="a"), []),
        (Own(admin=True, nonce="a"), Own(admin=False, nonce="a"), [asking(Bare)]),
        (Own(admin=True, nonce="a"), Own(admin=True, nonce="b"), [password(Bare)]),
        (Own(admin=False, nonce="a"), Own(admin=True, nonce="a"), []),
        (Bare(), Bare(), []),
        (None, Own(admin=False, nonce="b"), []),
    ],
)
def test_user_models_of_other_kinds(stored: Any, saved: Any, expected: list[Notice]) -> None:
    class Manager:
        def __getattr__(self, name: str) -> Any:
            return lambda *args, **kwargs: stored if name == "first" else self

    sender: Any = type("Sender", (), {"_base_manager": Manager()})
    arguments: dict[str, Any] = {"instance": saved, "raw": False, "using": "default", "update_fields": None}
    revocation._user_to_be_saved(sender=sender, **arguments)
    revocation._user_saved(created=False, **arguments)
    assert notices() == expected


@pytest.fixture(params=["proxy", "child"])
def kind(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A proxy of the users, or a model that extends them, that was there when the project started."""
    if request.param == "proxy":
        with user_model("Employee") as made:
            yield made
        return
    with user_model("Employee", proxy=False, room=models.CharField(max_length=10)) as made:
        with connection.schema_editor() as editor:
            editor.create_model(made)
        yield made
        with connection.schema_editor() as editor:
            editor.delete_model(made)
        del User.employee  # type: ignore[attr-defined]


def test_proxies_and_models_that_extend_it(kind: Any) -> None:
    user = kind.objects.create(username="ann", is_staff=True, is_superuser=True)
    user.is_staff = False
    user.save()
    assert notices() == [asking(user)]
    base = User.objects.get(pk=user.pk)
    base.is_superuser = False
    base.save()
    assert notices() == [asking(user)] * 2
