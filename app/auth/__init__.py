"""Signing in: access tokens, refresh tokens, and the login sessions that both belong to; API keys.

Words: a *login session* is one signed-in device; its *generation* counts the refresh tokens that it
had, of which only the newest is good; a generation is *confirmed* once the client has shown that it
got it; *reuse* is the coming back of a refresh token that was replaced long ago.

A *known device* shows a device token, which an earlier sign-in from it was answered; a *CSRF token*
shows that a page of ours sent the cookie along; a *suspended* user can't sign in for some time. An
*API key* lets a program act for its *owner*, within its *scopes*; its *text* is shown once.

Decisions: an access token proves who it was issued to, and nothing else is believed from it: each
request reads its login session, with the user's status and roles. What is remembered of a token is
that its signature was good. Refresh tokens aren't stored: they are computed from the login session,
its generation and a master key. The first generation counts as confirmed, because there is none
before it that could have to be taken in its place. A browser keeps its refresh token in a cookie,
which no page can read and which counts only together with proof that a page of ours sent it.
Whoever ends all login sessions of a user (suspension, a new password, signing out everywhere) ends
each by its row and under the user's row, which a login locks too: a moment before which none counts
would let those live that began on a machine whose clock was ahead. Guesses are counted before the
hash and given back when they were none, so that any number at once gets no further than one after
the other; a known device has an allowance of its own, so that a stranger's guesses never lock out
the owner there. An API key has no rights of its own: what it may do is read with its owner's roles
at each request. It opens nothing by which its owner signs in, so that deleting it shuts out whoever
has stolen it.
"""
