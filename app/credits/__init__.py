"""The double-entry ledger: who holds how many credits, and every movement of them.

Words: an *account* holds credits, one for each user (with the user's id) and the house accounts
*issuance*, where credits come into being, and *revenue*, which charges and payments go to; a
*transfer* moves credits from one account to another, once and for ever; an *entry* is one signed
line of a transfer, on one account; a *delta* is an amount that a house account's balance doesn't
include yet; a *hold* sets credits of a user aside, until it is captured (as a charge), released or
expired.

Decisions:
- One function in the database, `post_transfer_v3`, moves credits, and a few around it post many
  at once or set credits aside. `ledger.py` and `holding.py` alone call them, and the application's
  role may do nothing else to the books.
- It is the last thing in a transaction but the answer's own row, because it locks accounts: audit
  events are written before it, with an id made beforehand.
- A user's account is locked before the user's status is changed to `deleting`. A transfer reads the
  status under the same lock, so that no credits arrive at a user who is going. `lock_account_v1`
  is for that: without the right to change a row the application's role can't lock it.
- Whether the books are frozen is asked twice: by each function as it begins, and, so that nothing
  gets past, by the tables. There each change also shares a lock that a freeze waits for.
- The balance in the row and the sum of the entries say the same thing twice, on purpose:
  `verification.py` compares them, and `checks.py` has the queries.
"""
