"""``{% load django_sse %}``"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django import template
from django.templatetags.static import static
from django.urls import reverse

from django_sse import log
from django_sse.channels import check_channel
from django_sse.script import event_source as render_event_source
from django_sse.script import parse_handlers

if TYPE_CHECKING:
    from django.template.context import Context
    from django.utils.safestring import SafeString

register = template.Library()


@register.simple_tag(takes_context=True)
def event_source(
    context: Context,
    *channels: str,
    handler: str | None = None,
    events: str | None = None,
    since: int | None = None,
    last: int | None = None,
    url: str | None = None,
    text: bool = False,
    nonce: str | None = None,
    robust: bool = False,
) -> SafeString:
    """Open one EventSource: ``{% event_source "public.orders" handler="updateUI" %}``.

    ``channels``: what to listen to; none where ``url`` is a view that knows.
    ``handler``: the JavaScript function that is called with the data of each event.
    ``events``: the types to listen for, ``"notification metric"`` or ``"notification:bell.add metric:chart.add"``;
    without it, unnamed events only.
    ``since``: the position the page's content was read at; without it, that of this moment.
    ``last``: begin with the last so many events.
    ``url``: the address of the stream; without it, that of ``django_sse.urls``.
    ``text``: the data is text, not JSON.
    ``nonce``: that of the page's Content-Security-Policy; without it, the one of Django 6 or django-csp, if any.
    ``robust``: listen with ``static/django_sse/client.js``, which comes back whatever a proxy answers.
    """
    try:
        names = [check_channel(channel) for channel in channels]
        handlers = parse_handlers(events, handler)
    except ValueError as error:
        raise template.TemplateSyntaxError(f"{{% event_source %}}: {error}") from error
    if not (names or url):
        raise template.TemplateSyntaxError(
            "{% event_source %} needs a channel, or the url= of a view that has its own."
        )
    query: list[tuple[str, str | int]] = [("channel", name) for name in names]
    query.append(("since", log.reach().head if since is None else since))
    if last:
        query.append(("last", last))
    nonce = _read_nonce(nonce) or _page_nonce(context)
    return render_event_source(
        url or reverse("django_sse:events"),
        query,
        handlers,
        text=text,
        nonce=nonce,
        client=static("django_sse/client.js") if robust else "",
    )


def _page_nonce(context: Context) -> str:
    """Return the nonce that Django 6's ``csp`` context processor or django-csp made for this page."""
    request = context.get("request")
    return _read_nonce(context.get("csp_nonce")) or _read_nonce(getattr(request, "csp_nonce", None))


def _read_nonce(nonce: object) -> str:
    """Return ``nonce`` as text. Those of Django and django-csp are lazy, made when they are read and false until then:
    asked whether they are true, they would never be made, and the policy would block the script."""
    return "" if nonce is None else str(nonce)
