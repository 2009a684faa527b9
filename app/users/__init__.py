"""People and programs that can sign in: who they are, which roles they have, their passwords.

Words: a *user* can sign in; a *role* is a named set of *permissions*; a *stronger* user holds a
permission that the actor lacks; the *email key* is what an address is compared by; the *grams* of a
name are what a search for a part of it looks up.

Decisions: everybody has the role `user`, so it isn't stored. Passwords are hashed on one native
thread per worker: on the event loop one hash would stop every other request, and more threads than
cores would only take memory. The list of common passwords is zxcvbn's own, with its dictionaries of
words and names, read when the first password is chosen. A suspension whose time is over is written
nowhere: whoever shows or looks for a status counts it as over, and its version as one more. That
the last active administrator stays one, a trigger holds.
"""
