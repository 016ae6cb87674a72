from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.translation import trans_real

from django_sse import admin, changelist, log, replay, retention, send_event
from django_sse.conf import settings
from django_sse.models import Event, Head
from django_sse.readable import lines, pretty, visible
from django_sse.sequencer import sequence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.django_db

LIST = "/admin/django_sse/event/"
XSS = "<script>alert(1)</script>"
ESCAPED = "&lt;script&gt;alert(1)&lt;/script&gt;"


@pytest.fixture
def page(admin_client: Client) -> Callable[..., str]:
    """GET a page of the admin and return its HTML; it must be one."""

    def get(url: str = LIST, **query: Any) -> str:
        response = admin_client.get(url, query)
        assert response.status_code == 200, (url, query, response)
        return response.content.decode()

    return get


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that a test can reach."""
    monkeypatch.setattr(changelist, "LISTED", 20)
    monkeypatch.setattr(changelist, "RECENT", 10)
    monkeypatch.setattr(changelist, "CHOICES", 3)
    monkeypatch.setattr(changelist, "SEARCHED", 10)
    monkeypatch.setattr(admin.EventAdmin, "list_per_page", 5)
    monkeypatch.setattr(admin.EventAdmin, "list_max_show_all", 5)


def stored(channel: str = "orders", event_type: str = "status", **kwargs: Any) -> Event:
    event = send_event(channel, event_type, **({} if "text" in kwargs else {"data": None}) | kwargs)
    assert event
    sequence()  # the test's own transaction is open: nothing commits, so nothing numbers by itself
    event.refresh_from_db()
    return event


def many(count: int, channel: str = "orders", **fields: Any) -> list[Event]:
    rows = [Event(channel=channel, **({"type": "status", "data": f'"{n}"'} | fields)) for n in range(count)]
    log.append(rows)
    sequence()
    return list(Event.objects.filter(channel=channel).order_by("pk"))[-count:]


def detail(event: Event) -> str:
    return f"{LIST}{event.pk}/change/"


def listed(html: str) -> list[str]:
    """Return the positions in the list, in its order."""
    return re.findall(r"field-shown_position[^>]*><a [^>]*>([^<]+)</a>", html)


def answered(html: str) -> list[str]:
    """Return the positions in the answer to what a client would receive."""
    return re.findall(r'<th scope="row"><a [^>]*>(\d+)</a>', html)


def choices(html: str, parameter: str) -> set[str]:
    found = re.search(rf'data-filter-title="{parameter} \(.*?</details>', html, re.DOTALL)
    return set(re.findall(r"<a [^>]*>\s*([^<]+?)\s*</a>", found[0])) - {"All"} if found else set()


def text(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


# Who may see it


def someone(*permissions: str) -> User:
    user = User.objects.create_user("someone", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return user


WHO: dict[str, tuple[Callable[[], User | None], bool]] = {
    "superuser": (lambda: User.objects.create_superuser("root"), True),
    "staff who may view": (lambda: someone("view_event"), True),
    "staff who may all but view": (lambda: someone("add_event", "change_event", "delete_event", "view_head"), False),
    "staff": (lambda: someone(), False),
}


@pytest.mark.parametrize("who", WHO)
def test_view_permission_reads_and_nothing_writes(client: Client, who: str) -> None:
    make, may_view = WHO[who]
    user = make()
    assert user
    client.force_login(user)
    event = stored()
    seen = 200 if may_view else 403

    assert client.get(LIST).status_code == seen
    assert client.get(detail(event)).status_code == seen
    assert client.get(f"{LIST}{event.pk}/history/").status_code == seen
    assert (b"/admin/django_sse/event/" in client.get("/admin/").content) is may_view
    assert client.get(f"{LIST}add/").status_code == 403
    assert client.post(f"{LIST}add/", {"channel": "orders"}).status_code == 403
    assert client.post(detail(event), {"channel": "stolen"}).status_code == 403
    assert client.post(detail(event), {"_saveasnew": "1", "channel": "stolen"}).status_code == 403
    assert client.get(f"{LIST}{event.pk}/delete/").status_code == 403
    assert client.post(f"{LIST}{event.pk}/delete/", {"post": "yes"}).status_code == 403
    client.post(LIST, {"action": "delete_selected", "_selected_action": event.pk, "index": 0, "post": "yes"})
    client.post(LIST, {"form-0-id": event.pk, "form-0-channel": "stolen", "_save": "Save"})
    assert list(Event.objects.values_list("channel", flat=True)) == ["orders"]


@pytest.mark.parametrize("way", ["", "add/", "1/change/", "1/delete/", "1/history/"])
@pytest.mark.parametrize("method", ["get", "post"])
def test_others_are_sent_to_log_in(client: Client, method: str, way: str) -> None:
    client.force_login(User.objects.create_user("customer"))
    for visitor in (client, Client()):
        response = getattr(visitor, method)(LIST + way)
        assert response.status_code == 302
        assert "/login/" in response.url


def test_the_head_is_not_in_the_admin(admin_client: Client) -> None:
    assert admin_client.get("/admin/django_sse/head/").status_code == 404


# The list


def test_list_shows_the_newest_first(page: Callable[..., str]) -> None:
    many(3)
    event = stored("public.news", "message", text="<b>late</b>", key="news-1")
    html = page()
    assert listed(html) == ["4", "3", "2", "1"]
    when = timezone.localtime(event.created_at).strftime("%Y-%m-%d %H:%M:%S")
    assert f"4 {when} public.news message news-1 <b>late</b>" in text(html)
    assert "The log reaches from 0 to 4" in text(html)


def test_list_tells_the_floor(page: Callable[..., str]) -> None:
    many(30)
    retention.trim(keep=10)
    assert "The log reaches from 20 to 30" in text(page())


def test_list_of_an_empty_log(page: Callable[..., str]) -> None:
    assert "The log reaches from 0 to 0" in text(page())


def test_positions_have_no_thousands_separator(page: Callable[..., str], settings: Any) -> None:
    settings.USE_THOUSAND_SEPARATOR = True
    Head.objects.update_or_create(pk=1, defaults={"position": 1234567})
    event = stored()
    assert listed(page()) == ["1234568"]
    html = page(detail(event))
    assert answered(html) == ["1234568"]
    assert "from 0 to 1234568" in text(page())
    assert "The client is given id 1234568" in text(page(detail(event), at="9999999"))


def test_long_data_is_cut(page: Callable[..., str]) -> None:
    stored(data="x" * 500)
    assert f'"{"x" * 79}…' in text(page())
    assert "x" * 80 not in page()


def test_times_are_in_the_current_time_zone(page: Callable[..., str], settings: Any) -> None:
    settings.TIME_ZONE = "Asia/Tokyo"
    event = stored()
    Event.objects.update(created_at="2025-06-30T23:59:58.125Z")
    assert "2025-07-01 08:59:58" in page()
    assert "2025-07-01 08:59:58.125+09:00" in page(detail(event))


def test_unnumbered_events_are_on_top_and_can_be_opened(page: Callable[..., str]) -> None:
    many(2)
    late = Event.objects.create(channel="orders", type="status", data="1")
    assert listed(page()) == ["unnumbered", "2", "1"]
    assert listed(page(channel="orders")) == ["unnumbered", "2", "1"]
    html = page(detail(late))
    assert "It has no position yet, so no client was sent it" in text(html)
    assert 'name="at" value="2"' in html
    assert "these channels have no event after 2" in text(html)


def test_whatever_is_stored_is_text(page: Callable[..., str]) -> None:
    event = Event.objects.create(channel=f"c{XSS}", type=f"t{XSS}", data=f'["d{XSS}"]', key=f"k{XSS}")
    sequence()
    for html in (page(), page(detail(event)), page(detail(event), at=XSS, channels=XSS), page(q=XSS), page(type=XSS)):
        assert XSS not in html
    for field in "ctk":
        assert field + ESCAPED in page()
        assert field + ESCAPED in page(detail(event))
    assert f"[&quot;d{ESCAPED}&quot;]" in page()
    assert f"data: [&quot;d{ESCAPED}&quot;]" in page(detail(event))


# Paging


@pytest.mark.usefixtures("short")
def test_pages_end_at_a_bound_and_say_so(page: Callable[..., str]) -> None:
    many(21)
    assert listed(page()) == ["21", "20", "19", "18", "17"]
    assert listed(page(p=4)) == ["6", "5", "4", "3", "2"]
    assert listed(page(all="")) == ["21", "20", "19", "18", "17"]
    assert "These are the newest 20 that match; there are more. Go on with the older ones" in text(page())


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("filters", [{}, {"type": "status"}, {"channel": "orders"}])
def test_the_older_ones_follow_without_a_gap(page: Callable[..., str], filters: dict[str, str]) -> None:
    many(50)
    found: list[str] = []
    query = urlencode(filters)
    while True:
        html = page(f"{LIST}?{query}")
        for number in range(1, 5):
            found += listed(page(f"{LIST}?{query}&p={number}")) if f"p={number}" in html or number == 1 else []
        link = re.search(r'<a href="\?([^"]+)">Go on with the older ones', html)
        if not link:
            break
        query = unescape(link[1])
    assert found == [str(position) for position in range(50, 0, -1)]
    back = re.search(r'<a href="\?([^"]*)">Back to the newest', html)
    assert back
    assert listed(page(f"{LIST}?{unescape(back[1])}"))[0] == "50"


@pytest.mark.usefixtures("short")
def test_no_link_where_a_key_cannot_say_what_follows(page: Callable[..., str]) -> None:
    many(21)
    today = {
        "created_at__gte": timezone.now() - timedelta(days=1),
        "created_at__lt": timezone.now() + timedelta(days=1),
    }
    assert "there are more. Narrow them down with the filters." in text(page(**today))
    many(21, channel="stat", type="stat")
    assert "there are more. Narrow them down with the filters." in text(page(q="stat"))
    if connections[settings.DATABASE].features.supports_order_by_nulls_modifier:
        Event.objects.update(position=None)
        assert "there are more. Narrow them down with the filters." in text(page(channel="orders"))


@pytest.mark.usefixtures("short")
def test_exactly_the_bound_is_all(page: Callable[..., str]) -> None:
    many(20)
    assert "there are more" not in page()


def test_a_page_that_is_not_there_leads_back(admin_client: Client) -> None:
    many(60)
    for wrong in ({"p": 99}, {"id__lt": "x"}, {"created_at__gte": "x"}):
        assert admin_client.get(LIST, wrong).headers["Location"] == f"{LIST}?e=1"


def test_sorting_by_other_columns_is_ignored(page: Callable[..., str]) -> None:
    many(3)
    assert listed(page(o="6")) == ["3", "2", "1"]
    assert 'class="sortable' not in page()


@pytest.mark.parametrize("lookup", ["data__regex", "data", "type__contains", "position__isnull", "nothing"])
def test_only_the_filters_look_up(admin_client: Client, lookup: str) -> None:
    assert admin_client.get(LIST, {lookup: "x"}).status_code == 400


# Filters


def test_filter_by_channel_and_type(page: Callable[..., str]) -> None:
    many(2, "orders", type="status")
    many(2, "user.7", type="note")
    many(2, "orders", type="note")
    assert listed(page(channel="orders")) == ["6", "5", "2", "1"]
    assert listed(page(type="note")) == ["6", "5", "4", "3"]
    assert listed(page(channel="orders", type="note")) == ["6", "5"]
    assert listed(page(channel="nobody")) == []
    assert choices(page(), "channel") == {"orders", "user.7"}
    assert choices(page(), "type") == {"status", "note"}


@pytest.mark.usefixtures("short")
def test_filters_offer_what_is_frequent_among_the_newest(page: Callable[..., str]) -> None:
    many(5, "old", type="old")
    for channel, count in {"a": 3, "b": 3, "c": 3, "d": 1}.items():
        many(count, channel)
    assert choices(page(), "channel") == {"a", "b", "c"}
    assert choices(page(channel="old"), "channel") == {"a", "b", "c", "old"}
    assert len(listed(page(channel="old"))) == 5


@pytest.mark.parametrize("value", ["", "\x00", "ж", "x" * 300, XSS, "\n", "🎉"])
@pytest.mark.parametrize("parameter", ["channel", "type", "q"])
def test_any_value_can_be_asked_for(page: Callable[..., str], parameter: str, value: str) -> None:
    stored()
    assert listed(page(**{parameter: value})) == ([] if value.strip("\x00\n") or parameter != "q" else ["1"])


def test_filter_by_date(page: Callable[..., str]) -> None:
    many(4)
    now = timezone.now()
    Event.objects.filter(position=1).update(created_at=now - timedelta(days=400))
    Event.objects.filter(position=3).update(created_at=now - timedelta(days=500))
    html = page()
    assert listed(html) == ["4", "3", "2", "1"]
    link = re.search(r'<a href="\?([^"]+)">Past 7 days', html)
    assert link
    assert listed(page(f"{LIST}?{unescape(link[1])}")) == ["4", "2"]
    assert listed(page(created_at__lt=now - timedelta(days=300))) == ["1", "3"]


# Search


def test_a_number_finds_its_position_alone(page: Callable[..., str]) -> None:
    many(12)
    stored("2", key="2")
    assert listed(page(q="2")) == ["2"]
    assert listed(page(q=" 12 ")) == ["12"]
    for number in ("0", "99", "9" * 19, "9" * 5000, "٣"):
        assert listed(page(q=number)) == []


@pytest.mark.usefixtures("short")
def test_channels_and_keys_are_found_in_the_whole_log(page: Callable[..., str]) -> None:
    stored("orders", key="k-1")
    stored("user.7", key="k-1")
    many(15, "orders.eu")
    assert listed(page(q="user.7")) == ["2"]
    assert listed(page(q="k-1")) == ["2", "1"]
    assert listed(page(q="k-1", channel="orders")) == ["1"]
    assert listed(page(q="k-")) == []
    assert listed(page(q="orders")) == ["17", "16", "15", "14", "13"]
    assert listed(page(q="orders", p=3)) == ["1"]


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(("part", "found"), [("rder", True), ("STAT", True), ("zoë", True), ("nowhere", False)])
def test_parts_are_found_among_the_newest(page: Callable[..., str], part: str, found: bool) -> None:
    many(1, data='"Zoë zoë"')
    many(9, "user.7", type="note", data="1")
    assert listed(page(q=part)) == (["1"] if found else [])
    many(1, "user.7", type="note", data="1")
    assert listed(page(q=part)) == []


def test_the_help_says_what_is_searched(page: Callable[..., str]) -> None:
    assert f"among the newest {changelist.SEARCHED:,} events alone" in text(page())


# One event


def test_json_is_indented(page: Callable[..., str]) -> None:
    html = page(detail(stored(data={"id": 7, "lines": ["Zoë"]}, key="k-7")))
    assert unescape(html).count('{\n  "id": 7,\n  "lines": [\n    "Zoë"\n  ]\n}') == 1
    for shown in ("orders", "status", "k-7"):
        assert f'<div class="readonly">{shown}</div>' in html


def test_no_key_is_a_dash(page: Callable[..., str]) -> None:
    assert "Key: -" in text(page(detail(stored())))


def test_the_bytes_on_the_wire(page: Callable[..., str]) -> None:
    html = unescape(page(detail(stored(text="<p>a</p>\r\nb\tc\u202ed"))))
    assert "id: 1«LF»\nevent: status«LF»\ndata: <p>a</p>«LF»\ndata: b«TAB»c«U+202E»d«LF»\n«LF»\n" in html
    assert "<p>a</p>«CR»\nb«TAB»c«U+202E»d" in html


@pytest.mark.parametrize("bad", ["new\nline", "new\rline"])
def test_a_row_that_cannot_be_an_event_says_why(page: Callable[..., str], bad: str) -> None:
    event = many(1, type=bad)[0]
    assert "new«LF»line" in page() or "new«CR»line" in page()
    html = unescape(page(detail(event)))
    assert "This row cannot be an event, so clients are sent a reset in its place: event 'new" in html
    assert 'event: sse.reset«LF»\ndata: {"reason":"unreadable","id":1}«LF»' in html
    assert answered(html) == ["1"]
    assert "sse.reset (unreadable)" in html
    assert listed(page(type=bad)) == ["1"]


def test_a_row_whose_channel_is_none_asks_for_another(page: Callable[..., str]) -> None:
    html = page(detail(many(1, "no channel")[0]))
    assert "“no channel” is not a channel name" in text(html)
    assert answered(html) == []


@pytest.mark.parametrize("number", ["0", "x", "9" * 30])
def test_an_event_that_is_gone_leads_back(admin_client: Client, number: str) -> None:
    assert admin_client.get(f"{LIST}{number}/change/").status_code == 302


# What a client would receive


def test_the_answer_begins_with_the_event(page: Callable[..., str]) -> None:
    events = many(5)
    many(1, "user.7")
    html = page(detail(events[2]))
    assert 'name="at" value="2"' in html
    assert answered(html) == ["3", "4", "5"]
    assert answered(page(detail(events[2]), at="1")) == ["2", "3", "4", "5"]
    assert answered(page(detail(events[2]), at="4", channels="orders,user.7")) == ["5", "6"]
    assert answered(page(detail(events[2]), at="0", channels=" user.7 , ,user.7")) == ["6"]
    assert "no event after 6" in text(page(detail(events[2]), at="6"))


def test_the_answer_is_bounded(page: Callable[..., str]) -> None:
    event = many(replay.REPLAYED)[0]
    html = page(detail(event))
    assert len(answered(html)) == replay.REPLAYED
    assert "And more" not in html
    many(1)
    html = page(detail(event))
    assert len(answered(html)) == replay.REPLAYED
    assert "And more after these." in html


@pytest.mark.parametrize(
    ("at", "reason"), [("4", "expired"), ("16", "ahead"), ("9" * 19, "ahead"), ("07", "malformed"), ("x", "malformed")]
)
def test_a_reset_is_shown_with_its_reason(page: Callable[..., str], at: str, reason: str) -> None:
    event = many(15)[-1]
    retention.trim(keep=10)
    html = page(detail(event), at=at)
    assert f"A reset ({reason})" in text(html)
    assert "The client is given id 15" in text(html)
    assert f'data: {{"reason":"{reason}","id":15}}' in unescape(html)
    assert answered(html) == []
    assert answered(page(detail(event), at="5"))[0] == "6"


def test_what_is_trimmed_meanwhile_is_not_passed_over(
    page: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    event = many(9)[-1]
    after = log.after

    def trimmed_first(*args: Any) -> list[Event]:
        retention.trim(keep=3)
        return after(*args)

    monkeypatch.setattr(log, "after", trimmed_first)
    assert "A reset (expired)" in text(page(detail(event), at="2"))


def test_a_client_without_an_id_starts_live(page: Callable[..., str]) -> None:
    html = page(detail(many(3)[0]), at="")
    assert "without an id a client starts live, at 3" in text(html)
    assert answered(html) == []


@pytest.mark.parametrize(
    ("channels", "complaint"),
    [
        ("orders,us er", "“us er” is not a channel name"),
        ("a\u202e", "“a«U+202E»” is not a channel name"),
        ("x" * 101, "is not a channel name"),
        (",".join(f"c{n}" for n in range(21)), "A stream has at most 20 channels."),
        ("", "This field is required."),
        (", ,", "Name a channel."),
        ("a\x00", "Null characters are not allowed."),
    ],
)
def test_wrong_channels_are_a_message(page: Callable[..., str], channels: str, complaint: str) -> None:
    html = page(detail(stored()), channels=channels)
    assert complaint in text(html)
    assert answered(html) == []


def test_the_way_back_to_the_filtered_list_is_kept(page: Callable[..., str]) -> None:
    html = page(detail(stored()), at="0", _changelist_filters="channel=orders")
    assert '<input type="hidden" name="_changelist_filters" value="channel=orders">' in html
    assert f'href="{LIST}?channel=orders" class="closelink"' in html


# What it costs and what it needs


@pytest.fixture
def queries() -> Iterator[CaptureQueriesContext]:
    with CaptureQueriesContext(connections[settings.DATABASE]) as context:
        yield context


ASKED: list[dict[str, Any]] = [
    {},
    {"p": 2},
    {"_facets": "True"},
    {"channel": "orders"},
    {"channel": "orders", "p": 2},
    {"type": "status"},
    {"created_at__gte": "2020-01-01 00:00:00+00:00", "created_at__lt": "2100-01-01 00:00:00+00:00"},
    {"q": "7"},
    {"q": "orders"},
    {"q": "tatu", "channel": "orders"},
    {"o": "6"},
]


@pytest.mark.parametrize("query", ASKED, ids=str)
def test_a_list_never_counts_sorts_or_compares_the_table(
    admin_client: Client, django_assert_max_num_queries: Any, query: dict[str, Any]
) -> None:
    many(120)
    with django_assert_max_num_queries(12) as context:
        assert admin_client.get(LIST, query).status_code == 200
    captured = [query["sql"].replace("`", '"') for query in context.captured_queries]  # the quotes of MySQL
    asked = [sql for sql in captured if "django_sse_event" in sql]
    assert 3 <= len(asked) <= 9
    for sql in asked:
        assert "COUNT(" not in sql
        assert "DISTINCT" not in sql
        assert "LIMIT" in sql or '"django_sse_event"."id" IN (' in sql
        order = re.search(r"ORDER BY (.*?) LIMIT", sql)
        if order:
            allowed = r'(("django_sse_event"\.)?"(id|position|created_at)"|1|2)( DESC)?( NULLS FIRST)?'
            assert all(re.fullmatch(allowed, column) for column in order[1].split(", ")), sql


def test_a_filtered_list_is_read_in_the_order_of_its_index(admin_client: Client) -> None:
    connection = connections[settings.DATABASE]
    if connection.vendor != "sqlite":
        pytest.skip("other planners sort what fits into memory anyway")
    many(120)
    for query in ASKED[3:7]:
        with CaptureQueriesContext(connection) as context:
            admin_client.get(LIST, query)
        keys = [sql for sql in (query["sql"] for query in context.captured_queries) if "LIMIT 5001" in sql]
        assert len(keys) == 1
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {keys[0]}")
            assert "TEMP B-TREE" not in str(cursor.fetchall())


def test_one_event_takes_few_queries(admin_client: Client, django_assert_max_num_queries: Any) -> None:
    event = many(60)[0]
    with django_assert_max_num_queries(6) as context:
        assert admin_client.get(detail(event)).status_code == 200
    assert not [query["sql"] for query in context.captured_queries if "COUNT(" in query["sql"]]


def test_a_refusal_reads_nothing_of_the_log(client: Client, queries: CaptureQueriesContext) -> None:
    client.force_login(someone())
    assert client.get(LIST).status_code == 403
    assert not [query["sql"] for query in queries.captured_queries if "django_sse_" in query["sql"]]


def test_a_strict_content_security_policy_breaks_nothing(page: Callable[..., str]) -> None:
    event = many(60)[0]
    for html in (page(), page(detail(event)), page(detail(event), at="x")):
        assert "<style" not in html
        assert not re.search(r"<[^>]+\s(style|on\w+)=", html)
        assert all("src=" in tag or "application/json" in tag for tag in re.findall(r"<script[^>]*>", html))
        assert "/static/django_sse/admin.css" in html


def test_texts_can_be_translated(page: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    translation = trans_real.translation("en-us")
    monkeypatch.setattr(translation, "gettext", lambda message: f"[{message}]")
    late = Event.objects.create(channel="orders", type="status", data="1")
    html = unescape(page(detail(late), at="x"))
    for message in ("unnumbered", "On the wire", "What would a client receive?", "Last event ID", "Show"):
        assert f"[{message}]" in html


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain ä 🎉", "plain ä 🎉"),
        ("\x00\x1b", "«NUL»«U+001B»"),
        ("a\u200bb\ufeff", "a«U+200B»b«U+FEFF»"),
        ("\ud800", "«U+D800»"),
    ],
)
def test_what_has_no_shape_is_named(raw: str, shown: str) -> None:
    assert visible(raw) == shown


def test_pretty_leaves_what_is_not_json() -> None:
    assert pretty("{not json") == "{not json"
    assert pretty("[" * 100_000) == "[" * 100_000
    assert pretty('"\\ud800"') == '"«U+D800»"'
    assert lines(b"id: 1\n\n") == "id: 1«LF»\n«LF»\n"
