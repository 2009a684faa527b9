"""Products and discounts."""

from alembic import op

from migrations.privileges import grant

revision = "0021_catalogue"
down_revision = "0020_ledger_valid"
branch_labels = None
depends_on = None

PRODUCTS = """
-- What can be bought. No row is ever deleted: orders name it.
CREATE TABLE products (
    id         uuid NOT NULL,
    -- What the app calls it; told apart by case. Lists are in its order, which must not depend on
    -- the language of a machine: a page's cursor stands between two of them.
    sku        text COLLATE "C" NOT NULL,
    -- For people. Orders copy it.
    name       text NOT NULL,
    -- All substrings of 1 to 3 characters of the folded name, as with users.
    name_grams text[] NOT NULL,
    -- Of one, in credits, before any discount. 0 is a gift.
    price      bigint NOT NULL,
    -- Whether it can be ordered, and is in the public list.
    active     boolean NOT NULL,
    -- The ETag; counts changes of what the API shows.
    version    bigint NOT NULL,
    CONSTRAINT pk_products PRIMARY KEY (id),
    CONSTRAINT uq_products_sku UNIQUE (sku),
    CONSTRAINT ck_products_sku CHECK (sku ~ '^[A-Za-z0-9._-]{1,64}$'),
    CONSTRAINT ck_products_name CHECK (char_length(name) BETWEEN 1 AND 100),
    -- With 10,000 of 100 items each an order stays below what a bigint holds.
    CONSTRAINT ck_products_price CHECK (price BETWEEN 0 AND 1000000000000),
    CONSTRAINT ck_products_version CHECK (version >= 1)
)
"""

DISCOUNTS = """
-- What takes a part off an order. No row is ever deleted: orders name it.
CREATE TABLE discounts (
    id              uuid NOT NULL,
    -- As staff spells it, and as it is shown.
    code            text COLLATE "C" NOT NULL,
    -- What it is found and listed by: people type codes in any case.
    code_key        text COLLATE "C" NOT NULL,
    -- Of a percent: 3333 is 33.33 %. An integer, because half a credit is rounded by our rule and
    -- not by that of a float.
    hundredths      integer NOT NULL,
    -- How many orders may have it. Null: any number.
    max_redemptions bigint,
    -- How many have it. Counted here and not in the orders, so that the row's lock decides who gets
    -- the last one.
    redeemed        bigint NOT NULL,
    -- From when it counts, and up to when. Null: always did, always will.
    starts_at       timestamptz,
    ends_at         timestamptz,
    -- Whether it can be redeemed at all.
    active          boolean NOT NULL,
    -- The ETag; counts what staff changes, and not the redemptions.
    version         bigint NOT NULL,
    CONSTRAINT pk_discounts PRIMARY KEY (id),
    CONSTRAINT uq_discounts_code_key UNIQUE (code_key),
    CONSTRAINT ck_discounts_code CHECK (code ~ '^[A-Za-z0-9._-]{1,64}$'),
    CONSTRAINT ck_discounts_code_key CHECK (code_key = lower(code)),
    CONSTRAINT ck_discounts_hundredths CHECK (hundredths BETWEEN 1 AND 10000),
    CONSTRAINT ck_discounts_max_redemptions CHECK (
        max_redemptions BETWEEN 1 AND 9007199254740991
    ),
    CONSTRAINT ck_discounts_redeemed CHECK (redeemed >= 0 AND redeemed <= max_redemptions),
    CONSTRAINT ck_discounts_ends_at CHECK (ends_at > starts_at),
    CONSTRAINT ck_discounts_version CHECK (version >= 1)
)
"""

INDEXES = (
    # The order of the list, of those that can be bought and of those that can't: either may be few.
    "CREATE INDEX ix_products_active_sku ON products (active, sku)",
    "CREATE INDEX ix_products_name_grams ON products USING gin (name_grams)",
)


def upgrade() -> None:
    """Create the two tables, empty."""
    op.execute(PRODUCTS)
    op.execute(DISCOUNTS)
    for statement in INDEXES:
        op.execute(statement)
    grant("SELECT, INSERT", "products, discounts")
    grant("UPDATE (sku, name, name_grams, price, active, version)", "products")
    grant(
        "UPDATE (code, code_key, hundredths, max_redemptions, redeemed, starts_at, ends_at, active,"
        " version)",
        "discounts",
    )
