"""Looks after an installation as a whole: backups, drills that restore them, and the doctor.

Words:

- A *backup* is one file in the custom format of `pg_dump`: the database as it was at one moment.
- A *drill* restores a backup into a database that is made for it and dropped afterwards.
- A *finding* is a sentence of the doctor about what is wrong, and what to do about it. A *problem*
  loses data, or keeps the service from doing its work; a *warning* does neither yet.

Decisions:

- Backups are made as the tables' owner: the service's role can't read all of it.
- A drill needs nothing of the server that the backup is from, and never touches its database.
- The doctor changes nothing and sends no mail.
"""
