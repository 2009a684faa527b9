"""What can be refused about the end of a user's life."""

from app.platform.errors import Conflict, Forbidden


class AccountNotSettled(Conflict):
    """The account still holds credits: send them, or give them up with `forfeit`.

    `details` has `balance` and `held`, only when the account is the actor's own. What is held can't
    be given up.
    """

    code = "ACCOUNT_NOT_SETTLED"
    message = "The account still holds credits. Send them, or repeat this with forfeit."


class SelfDeletion(Forbidden):
    """Staff deletes others only: for oneself there is a way that asks for the password."""

    message = "Nobody deletes themself like that. DELETE /api/v1/users/me asks for your password."
