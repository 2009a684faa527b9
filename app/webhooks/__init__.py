"""Telling apps what has happened: webhooks, the events they wait for, and their deliveries.

Words: a *webhook* is an address of an app, the *events* it wants, and a secret; an *event* is one
thing that happened, with the resource as the API showed it then; a *delivery* is one event for one
webhook, tried until the *endpoint* takes it, and *dead* when it never did; to *replay* one is to
begin its tries anew; a *lane* is what a worker does for one webhook.

Decisions: triggers write the events, into the outbox, in the transaction of the change: nobody who
changes a row can forget to tell, a transfer costs no further round trip, and where no webhook waits
nothing is written. They spell a resource once more; a test holds it against the API's answer. A
worker makes deliveries of them, and the table of these is the queue. They aren't jobs like mails:
each webhook has a lane with places of its own, so an endpoint that hangs holds up nobody but
itself. Whoever tries a delivery puts off when it is due, so a worker that dies costs half a minute
and loses none.

On the wire it is Standard Webhooks, whose libraries verify what we send; the id of the event is
that of the message, on each try and each replay. An answer counts by its status alone, and nothing
that an endpoint says is stored. Its name is looked up once, and the very address that was found
good is connected to; only public ones are, unless the operator says otherwise.

Events of users hold names and addresses, and go when their user is erased; the others name ids.
"""
