"""What looks across features: the end of a user's life, exports, and what is kept how long.

Words: a *deletion* begins when it is asked for, and can be *undone* for 30 days, by a link that the
user is sent; an *erasure* ends it: the personal data is gone everywhere, and what is left of the
user is an id. To *forfeit* credits is to give up what is left of them. An *export* is everything
that is known of a user, in one *archive*. *Retention* deletes what has been kept long enough.

Decisions: books and audit events stay, whoever is erased, because they name ids and no people; so
do memos, which belong to the books. The personal part of what an erased user did to somebody else
goes too, though it holds that user's values: it can't be parted, its digest says so. An archive
shows what is known of its user and nothing of anybody else, such as the network addresses of staff.
Nothing here may be done with an API key. Erasure waits until the requests are over that were under
way when the deletion began, so that none of them leaves something behind.
"""
