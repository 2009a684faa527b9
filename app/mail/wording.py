"""The words of each kind of mail, and how the words of strangers are taken into it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from app.mail.values import Kind

# What mail programs turn into links. A stranger who signs up with somebody's address and with an
# advertisement for a name would otherwise have us send it.
_LINKLIKE = re.compile(r"[/@]|\w\.\w\w")
# They don't show, and names of Persian and Indian languages, and emoji, are wrong without them.
_JOINERS = "\u200c\u200d"


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a kind says; {host}, {good} (how long) and the names of facts are filled in.

    `facts` are the labels of facts, in their order; `page` is where the link leads, `button` what
    it does. `before` stands above facts and link, `after` below.
    """

    subject: str
    before: tuple[str, ...]
    facts: Mapping[str, str] = field(default_factory=dict)
    page: str = ""
    button: str = ""
    after: tuple[str, ...] = ()


_ONCE = "The link is good for {good}, and works once."
CONTENTS: Mapping[Kind, Content] = {
    Kind.VERIFY: Content(
        subject="Welcome: please confirm your email address",
        before=(
            "Welcome! This is the address of your account at {host}.",
            "Please confirm that it is yours:",
        ),
        page="verify",
        button="Confirm my address",
        after=(
            _ONCE,
            "If you didn't sign up at {host}, somebody mistook your address for theirs. You don't"
            " have to do anything: without the link it isn't confirmed.",
        ),
    ),
    Kind.SIGN_UP: Content(
        subject="Please finish signing up",
        before=(
            "Somebody, we hope you, wants an account at {host} with this address.",
            "With this link you confirm that the address is yours, and your account is ready:",
        ),
        page="verify",
        button="Finish signing up",
        after=(
            _ONCE,
            "If it wasn't you, you don't have to do anything: without the link there will be no"
            " account.",
        ),
    ),
    Kind.KNOWN: Content(
        subject="You have an account already",
        before=(
            "Somebody, we hope you, wanted to sign up at {host} with this address. You have an"
            " account with it already, and nothing about it has changed.",
            "Simply sign in as always. If you have forgotten your password, ask for a new one"
            " where you sign in.",
        ),
        after=(
            "If it wasn't you, you don't have to do anything: whoever it was hasn't learned that"
            " you have an account.",
        ),
    ),
    Kind.RESET: Content(
        subject="Choose a new password",
        before=(
            "Somebody, we hope you, asked for a new password for your account at {host}.",
            "Choose one here. You will be signed out on all your devices:",
        ),
        page="reset",
        button="Choose a new password",
        after=(
            _ONCE,
            "If it wasn't you, you don't have to do anything: your password stays as it is.",
        ),
    ),
    Kind.FORCED_RESET: Content(
        subject="Please choose a new password",
        before=(
            "To keep your account at {host} safe, please choose a new password. You have been"
            " signed out everywhere, and can sign in again once you have chosen one:",
        ),
        page="reset",
        button="Choose a new password",
        after=(
            _ONCE + " Later you get a new link by asking for a new password where you sign in.",
            "Our staff has asked for it, or you have taken back a change of your address. If this"
            " mail surprises you, please ask the people who run {host}.",
        ),
    ),
    Kind.CHANGE: Content(
        subject="Please confirm your new email address",
        before=(
            "You want to use this address for your account at {host}.",
            "Please confirm that it is yours. Until then your old address counts:",
        ),
        page="verify",
        button="Confirm my new address",
        after=(
            _ONCE,
            "If it wasn't you, somebody mistook your address for theirs. You don't have to do"
            " anything: without the link nothing changes.",
        ),
    ),
    Kind.CHANGE_NOTICE: Content(
        subject="Your email address is being changed",
        before=(
            "Your account at {host} is about to get another email address in place of this one.",
            "If that was you, you don't have to do anything. If it wasn't, keep this address:",
        ),
        page="undo",
        button="Keep this address",
        after=(
            "The link is good for {good}, and works once, also after the change.",
            "If it wasn't you, somebody else can use your account. Ask for a new password, too,"
            " where you sign in.",
        ),
    ),
    Kind.CHANGE_TOLD: Content(
        subject="Your email address is being changed",
        before=(
            "An account at {host} is about to get another email address in place of this one,"
            " which nobody has confirmed.",
        ),
        after=(
            "If that was you, or if you have no account there, you don't have to do anything.",
            "If it is your account and it wasn't you, somebody else can use it. Ask for a new"
            " password at once where you sign in: with that this address stays.",
        ),
    ),
    Kind.NEW_DEVICE: Content(
        subject="A new device has signed in",
        before=("Somebody, we hope you, has signed in at {host} on a device that is new to us:",),
        facts={"device": "Device", "address": "Network address", "time": "Time"},
        after=(
            "If that was you, you don't have to do anything.",
            "If it wasn't, somebody knows your password. Ask for a new one at once where you sign"
            " in: choosing it signs out everybody, on all devices. Then look through your API keys:"
            " they go on.",
        ),
    ),
    Kind.CREDENTIAL_CHANGED: Content(
        subject="Your password was changed",
        before=("The password of your account at {host} was changed.",),
        after=(
            "If that was you, you don't have to do anything.",
            "If it wasn't, somebody else can use your account. Ask for a new password at once"
            " where you sign in: choosing it signs out everybody, on all devices. Then look through"
            " your API keys: they go on.",
        ),
    ),
    Kind.REUSED: Content(
        subject="We have signed you out on one device",
        before=(
            "Your account at {host} was used with a key that one of your devices had used up"
            " before. That happens when somebody copied it, so we have signed that device out:",
        ),
        facts={"device": "Device", "time": "Time"},
        after=(
            "If it is yours, simply sign in again. Restoring a device from a backup can be the"
            " reason, too.",
            "If you don't know the device, or if this happens again, change your password: that"
            " signs out all other devices.",
        ),
    ),
    Kind.API_KEY_MADE: Content(
        subject="A key for a program was made",
        before=("Your account at {host} has a new API key, with which a program acts for you:",),
        facts={"scopes": "What it may do", "time": "Time"},
        after=(
            "If that was you, you don't have to do anything.",
            "If it wasn't, delete it from the list of your API keys, and change your password. A"
            " new password alone doesn't end it.",
        ),
    ),
    Kind.DELETION: Content(
        subject="Your account will be deleted",
        before=(
            "Your account at {host} will be deleted on {date}, with all your personal data. Until"
            " then nobody can sign in to it.",
            "If you have changed your mind, or if it wasn't you, keep your account:",
        ),
        page="undo",
        button="Keep my account",
        after=(
            _ONCE,
            "If you want to leave, you don't have to do anything. Thank you for having been here.",
        ),
    ),
}
FOOTER = "{host} sends this mail by itself. Answers to it reach nobody."


def greeting(name: str) -> str:
    """Greet somebody by name, unless the name looks like a link."""
    greeted = on_one_line(name)
    return "Hello," if not greeted or _LINKLIKE.search(greeted) else f"Hello {greeted},"


def on_one_line(text: str) -> str:
    """Return a stranger's words without what breaks lines, hides or turns around what follows."""
    shown = "".join(c if c.isprintable() or c in _JOINERS else " " for c in text)
    return " ".join(shown.split())
