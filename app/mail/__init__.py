"""Mails to users: what is to be said to whom, the one-time tokens in them, and their delivery.

Words: a *mail* is a row that says what to write to whom, and keeps its id, and with it its
`Message-ID`, however often it is tried; its *kind* is the occasion; its *token* proves that it was
read, once; it is *waiting* until it is *sent*, or *dead* when nobody could be made to take it;
its *facts* are what the text says beyond the name.

Decisions: a request writes the same one row whether anybody has the address or not; the worker
looks, writes to who is there, and deletes the row when nobody is. So neither answer nor time nor
limit tells who has an account. Tokens aren't stored: they are computed from the row's id, what they
are for, and a master key, so that a stolen database opens nothing. A token's time begins when its
mail is sent: an outage of the mail server costs nobody a link. It stands in the link's fragment,
which browsers send to nobody.

Text and HTML are made of the same sentences, so neither says more than the other. A mail has no
image and names no foreign host: nobody learns from it whether it was read. A name is a stranger's
words until its owner has confirmed the address, so one that looks like a link isn't greeted by.
Sending knows two failures: a temporary one, after which the same mail is tried again, and a refusal
of this mail or this recipient, after which it isn't. What an operator has to mend, such as a
password, is temporary: no mail is lost by it, and an error line says what to do. No failure carries
the words of a server, which quote addresses.
"""
