"""HTTP of the catalogue: products for everybody, discounts for staff."""

import hashlib
from typing import Any
from uuid import UUID

from flask import Response

from app.orders import discounts, products
from app.orders.catalogue_schemas import (
    DiscountIn,
    DiscountListOut,
    DiscountOut,
    DiscountPatchIn,
    ProductIn,
    ProductListOut,
    ProductListQuery,
    ProductOut,
    ProductPatchIn,
)
from app.orders.errors import CodeTaken, RedeemedMoreOften, SkuTaken
from app.orders.models import CatalogueRow
from app.orders.pricing import percent_text
from app.platform import http, pagination
from app.platform.fields import Compiled
from app.platform.guards import current_actor, public, requires, requires_where
from app.platform.http import exists, fails, takes_key, takes_version
from app.platform.idempotency import Answer
from app.platform.pagination import PageQuery
from app.platform.replies import reply_once

blp = http.Blueprint("catalogue", __name__, description="What can be bought, and for how much.")

# Whoever caches what anybody may see serves a change an hour late, at most.
CACHE = "public, max-age=3600"
_product_wire = Compiled(ProductOut())
_discount_wire = Compiled(DiscountOut())


@blp.route("/products")
@public
@requires_where("active", "false", permission="catalogue:write")
@blp.arguments(ProductListQuery(), location="query")
@blp.response(200, ProductListOut())
@blp.alt_response(304, description="The client has this page already.")
def list_products(query: dict[str, Any]) -> Response:
    """List products by SKU: those that can be bought, or, for staff, those that can't."""
    page = pagination.page(query, route="products", actor=current_actor())
    found = products.list_products(
        name=query.get("name"),
        active=query["active"],
        after=page.after,
        limit=page.limit,
        offset=page.offset,
    )
    shown = pagination.listing(page, found, wire=_product_wire.one, key=lambda row: (row.sku,))
    if not query["active"]:
        return http.respond(shown)
    tag = hashlib.sha256(http.dumps(shown)).hexdigest()[:32]
    return http.respond(shown, etag=tag, cache=CACHE)


@blp.route("/products", methods=["POST"])
@requires("catalogue:write")
@blp.arguments(ProductIn())
@blp.response(201, ProductOut())
@fails(SkuTaken)
@takes_key
def create_product(body: dict[str, Any]) -> Response:
    """Add a product."""
    actor = current_actor()
    return reply_once(
        lambda session: products.create_product(session, actor=actor, **body), _product_made
    )


@blp.route("/products/<uuid:product_id>")
@public
@blp.response(200, ProductOut())
@blp.alt_response(304, description="The client has this version already.")
def get_product(product_id: UUID) -> Response:
    """Get a product, also one that can't be bought any more."""
    product = products.get_product(product_id)
    return http.respond(_product_wire.one(product), etag=product.version, cache=CACHE)


@blp.route("/products/<uuid:product_id>", methods=["PATCH"])
@requires("catalogue:write")
@exists(products.get_product)
@blp.arguments(ProductPatchIn())
@blp.response(200, ProductOut())
@fails(SkuTaken)
@takes_key
@takes_version
def patch_product(body: dict[str, Any], product_id: UUID) -> Response:
    """Change a product, or take it out of the list with `active`.

    Caches may show it as it was for an hour. Orders keep what they were made with.
    """
    actor, versions = current_actor(), http.versions()
    return reply_once(
        lambda session: products.change_product(
            session, actor=actor, product_id=product_id, changes=body, versions=versions
        ),
        _product_shown,
    )


@blp.route("/discounts")
@requires("catalogue:write")
@blp.arguments(PageQuery(), location="query")
@blp.response(200, DiscountListOut())
def list_discounts(query: dict[str, Any]) -> Response:
    """List discounts by code, in any case."""
    page = pagination.page(query, route="discounts", actor=current_actor())
    found = discounts.list_discounts(after=page.after, limit=page.limit, offset=page.offset)
    return http.respond(
        pagination.listing(page, found, wire=_discount, key=lambda row: (row.code_key,))
    )


@blp.route("/discounts", methods=["POST"])
@requires("catalogue:write")
@blp.arguments(DiscountIn())
@blp.response(201, DiscountOut())
@fails(CodeTaken)
@takes_key
def create_discount(body: dict[str, Any]) -> Response:
    """Add a discount. Its code ignores case."""
    actor = current_actor()
    return reply_once(
        lambda session: discounts.create_discount(session, actor=actor, **body), _discount_made
    )


@blp.route("/discounts/<uuid:discount_id>")
@requires("catalogue:write")
@blp.response(200, DiscountOut(), headers={"ETag": {"schema": {"type": "string"}}})
def get_discount(discount_id: UUID) -> Response:
    """Get a discount. Its `ETag` is for `If-Match`, and stays the same when it is redeemed."""
    return http.reply(_discount_shown(discounts.get_discount(discount_id)))


@blp.route("/discounts/<uuid:discount_id>", methods=["PATCH"])
@requires("catalogue:write")
@exists(discounts.get_discount)
@blp.arguments(DiscountPatchIn())
@blp.response(200, DiscountOut())
@fails(CodeTaken, RedeemedMoreOften)
@takes_key
@takes_version
def patch_discount(body: dict[str, Any], discount_id: UUID) -> Response:
    """Change a discount, or end it with `active`. Orders keep what they were made with."""
    actor, versions = current_actor(), http.versions()
    return reply_once(
        lambda session: discounts.change_discount(
            session, actor=actor, discount_id=discount_id, changes=body, versions=versions
        ),
        _discount_shown,
    )


def _product_made(product: CatalogueRow) -> Answer:
    return http.answer(
        _product_wire.one(product),
        status=201,
        location=f"/api/v1/products/{product.id}",
        etag=product.version,
    )


def _product_shown(product: CatalogueRow) -> Answer:
    return http.answer(_product_wire.one(product), etag=product.version)


def _discount(discount: CatalogueRow) -> dict[str, Any]:
    return _discount_wire.one({**discount._mapping, "percent": percent_text(discount.hundredths)})


def _discount_made(discount: CatalogueRow) -> Answer:
    return http.answer(
        _discount(discount),
        status=201,
        location=f"/api/v1/discounts/{discount.id}",
        etag=discount.version,
    )


def _discount_shown(discount: CatalogueRow) -> Answer:
    return http.answer(_discount(discount), etag=discount.version)
