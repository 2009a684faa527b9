"""What an app sells for credits: products, discounts on them, and orders.

Words: a *product* is found by its *SKU* and costs a *price*; a *discount* takes a *percent* off an
order for whoever knows its *code*; a *redemption* is one order's use of a discount; percents are
integers of *hundredths*: 3333 is 33.33 %.

Decisions:
- Nothing is deleted. A product or discount that isn't *active* can't be ordered or redeemed any
  more; it stays readable by its id, because orders name it. So who has the id of a product sees it,
  active or not, and a list shows to everybody what can be bought.
- Orders copy what they were made of: SKU, name, price, code and percent may all change later.
- SKUs are told apart by case, as in every other system that has them; people type codes in, so a
  code has a *key*, in small letters, that it is found by.
- The catalogue is public and cached by whoever likes, for an hour: a change is seen that late by
  those who don't ask again. What an order costs is looked up when it is placed.
- The version of a discount counts what staff changes, and not its redemptions: `If-Match` keeps two
  of the staff from undoing each other, and on a busy discount it would never match otherwise. So
  its `ETag` never makes a 304.
- Numbers are integers all the way, in Python and in the database. Halves are rounded up.
"""
