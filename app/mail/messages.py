"""Writes a mail of a kind: the same sentences laid out as text and as HTML."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from html import escape
from urllib.parse import urlsplit

from app.mail.values import LIFETIMES, Kind
from app.mail.wording import CONTENTS, FOOTER, Content, greeting, on_one_line

WIDTH = 72


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A mail's subject and both its parts, which hold the token and don't show."""

    subject: str
    text: str = field(repr=False)
    html: str = field(repr=False)


# Colours of text and background are the reader's own, light or dark; the button brings both of its
# own. Styles stand in attributes, because some mail programs drop everything else.
_HTML = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{subject}</title>
</head>
<body style="margin:0 auto;padding:24px;max-width:36em;\
font:16px/1.5 system-ui,sans-serif;color-scheme:light dark">
{content}
<hr style="border:0;border-top:1px solid #888">
<p style="font-size:13px">{footer}</p>
</body>
</html>
"""
_BUTTON = (
    '<p><a href="{link}" style="display:inline-block;padding:10px 18px;border-radius:6px;'
    'background:#1a56db;color:#fff;font-weight:600;text-decoration:none">{button}</a></p>\n'
    "<p>If the button doesn't work, open this address:<br>\n"
    '<span style="word-break:break-all">{link}</span></p>'
)


def render(
    kind: Kind, *, name: str, public_url: str, token: str | None, facts: Mapping[str, str]
) -> Rendered:
    """Write a mail of a kind; wording.py says which `facts` it needs.

    Facts are short and for people's eyes: times are formatted already. Text and HTML say the same.
    The link is `<public_url>/account/<page>#<token>`, on a line of its own in the text.

    Raises ValueError for a link without a token, and KeyError for a fact that is missing.
    """
    content = CONTENTS[kind]
    if content.page and not token:
        raise ValueError(f"A mail of kind {kind} needs a token.")
    link = f"{public_url}/account/{content.page}#{token}" if content.page else ""
    known = {fact: on_one_line(value) for fact, value in facts.items()}
    known |= {"host": urlsplit(public_url).netloc, "good": _in_words(LIFETIMES.get(kind))}
    before = [greeting(name), *(sentence.format(**known) for sentence in content.before)]
    after = [sentence.format(**known) for sentence in content.after]
    lines = [f"{label}: {known[fact]}" for fact, label in content.facts.items()]
    footer = FOOTER.format(**known)
    return Rendered(
        subject=content.subject,
        text=_as_text(before, lines, link, after, footer),
        html=_as_html(content, before, lines, link, after, footer),
    )


def _as_text(before: list[str], facts: list[str], link: str, after: list[str], footer: str) -> str:
    """Lay out plain text of about 72 columns; nothing breaks the link, however long it is."""
    parts = [_wrapped(paragraph) for paragraph in before]
    parts += ["\n".join(_wrapped(fact, deeper="    ") for fact in facts)] if facts else []
    parts += [link] if link else []
    parts += [_wrapped(paragraph) for paragraph in after]
    # RFC 3676, 4.3: the mark of a signature, which mail programs show more quietly.
    return "\n\n".join(parts) + f"\n\n-- \n{_wrapped(footer)}\n"


def _as_html(
    content: Content,
    before: list[str],
    facts: list[str],
    link: str,
    after: list[str],
    footer: str,
) -> str:
    """Lay out HTML without images, scripts and foreign hosts."""
    parts = [f"<p>{escape(paragraph)}</p>" for paragraph in before]
    parts += ["<p>" + "<br>\n".join(escape(fact) for fact in facts) + "</p>"] if facts else []
    parts += [_BUTTON.format(link=escape(link), button=escape(content.button))] if link else []
    parts += [f"<p>{escape(paragraph)}</p>" for paragraph in after]
    return _HTML.format(
        subject=escape(content.subject), content="\n".join(parts), footer=escape(footer)
    )


def _wrapped(paragraph: str, *, deeper: str = "") -> str:
    return textwrap.fill(
        paragraph, WIDTH, subsequent_indent=deeper, break_long_words=False, break_on_hyphens=False
    )


def _in_words(lifetime: timedelta | None) -> str:
    """Return how long a link is good: "1 hour", "3 days"."""
    if lifetime is None:
        return ""
    hours = lifetime // timedelta(hours=1)
    number, unit = (hours // 24, "day") if hours >= 24 else (hours, "hour")
    return f"{number} {unit}{'s' * (number != 1)}"
