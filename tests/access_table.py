"""Who gets what from every route, which tests.test_authorization really asks for."""

# "user" owns what the path names, "other" is as much a user and doesn't. "key" is an API key of an
# administrator, with every scope; "key without" has another scope than the call needs.
WHO = (
    "anonymous", "user", "other", "suspended", "support", "finance", "service", "admin",
    "key", "key without",
)  # fmt: skip
KEYS = ("key", "key without")
ANYONE = (200,) * 10
SIGNED_IN_200 = (401, 200, 200, 401, 200, 200, 200, 200, 200, 403)
# What only administrators may.
ADMINS_200 = (401, 403, 403, 401, 403, 403, 403, 200, 200, 403)
ADMINS_201 = (401, 403, 403, 401, 403, 403, 403, 201, 201, 403)
ADMINS_204 = (401, 403, 403, 401, 403, 403, 403, 204, 204, 403)
# What no API key opens.
PEOPLE_200 = (401, 200, 200, 401, 200, 200, 200, 200, 403, 403)
PEOPLE_201 = (401, 201, 201, 401, 201, 201, 201, 201, 403, 403)
PEOPLE_204 = (401, 204, 204, 401, 204, 204, 204, 204, 403, 403)
PEOPLE_202 = (401, 202, 202, 401, 202, 202, 202, 202, 403, 403)
MATRIX = {
    "GET /": ANYONE,
    "GET /.well-known/jwks.json": ANYONE,
    "GET /account/page.css": ANYONE,
    "GET /account/page.js": ANYONE,
    "GET /account/reset": ANYONE,
    "GET /account/undo": ANYONE,
    "GET /account/verify": ANYONE,
    "GET /docs": ANYONE,
    "GET /docs/<any('swagger-ui.css','swagger-ui-bundle.js','favicon-32x32.png'):name>": ANYONE,
    "GET /docs/start.js": ANYONE,
    "GET /health": ANYONE,
    "GET /healthz": ANYONE,
    "GET /metrics": ANYONE,
    "GET /openapi.json": ANYONE,
    "GET /ready": ANYONE,
    "GET /api/v1/api-keys": PEOPLE_200,
    "POST /api/v1/api-keys": PEOPLE_201,
    "DELETE /api/v1/api-keys/<uuid:key_id>": (401, 204, 404, 401, 404, 404, 404, 404, 403, 403),
    "POST /api/v1/api-keys/<uuid:key_id>/rotate": (
        401, 201, 404, 401, 404, 404, 404, 404, 403, 403,
    ),
    "GET /api/v1/audit/events": (401, 403, 403, 401, 200, 200, 403, 200, 200, 403),
    "POST /api/v1/auth/login": (401, 200, 200, 403, 200, 200, 200, 200, 200, 200),
    "POST /api/v1/auth/logout": PEOPLE_204,
    "POST /api/v1/auth/logout-all": PEOPLE_204,
    "POST /api/v1/auth/refresh": (401, 200, 200, 401, 200, 200, 200, 200, 200, 200),
    "POST /api/v1/auth/email/resend": PEOPLE_202,
    "POST /api/v1/auth/email/verify": (204,) * 10,
    "POST /api/v1/auth/password/forgot": (202,) * 10,
    "POST /api/v1/auth/password/reset": (204,) * 10,
    "POST /api/v1/auth/undo": (204,) * 10,
    "GET /api/v1/credits/balance": SIGNED_IN_200,
    "GET /api/v1/credits/entries": SIGNED_IN_200,
    "POST /api/v1/credits/charges": (401, 403, 403, 401, 403, 201, 201, 201, 201, 403),
    "POST /api/v1/credits/grants": (401, 403, 403, 401, 403, 201, 403, 201, 201, 403),
    "GET /api/v1/credits/holds": SIGNED_IN_200,
    "POST /api/v1/credits/holds": (401, 201, 201, 401, 201, 201, 201, 201, 201, 403),
    "GET /api/v1/credits/holds/<uuid:hold_id>": (401, 200, 404, 401, 200, 200, 200, 200, 200, 403),
    "POST /api/v1/credits/holds/<uuid:hold_id>/capture": (
        401, 200, 404, 401, 404, 200, 200, 200, 200, 403,
    ),
    "POST /api/v1/credits/holds/<uuid:hold_id>/release": (
        401, 200, 404, 401, 404, 200, 200, 200, 200, 403,
    ),
    "POST /api/v1/credits/transfers/batch": (401, 201, 201, 401, 201, 201, 201, 201, 201, 403),
    "POST /api/v1/credits/transfers/<uuid:transfer_id>/reverse": (
        401, 403, 403, 401, 403, 201, 403, 201, 201, 403,
    ),
    "GET /api/v1/idempotency": SIGNED_IN_200,
    "GET /api/v1/users/<uuid:user_id>/credits": (
        401, 403, 403, 401, 200, 200, 200, 200, 200, 403,
    ),
    "POST /api/v1/credits/transfers": (401, 201, 201, 401, 201, 201, 201, 201, 201, 403),
    "GET /api/v1/credits/transfers/<uuid:transfer_id>": (
        401, 200, 404, 401, 200, 200, 200, 200, 200, 403,
    ),
    "GET /api/v1/discounts": ADMINS_200,
    "POST /api/v1/discounts": ADMINS_201,
    "GET /api/v1/discounts/<uuid:discount_id>": ADMINS_200,
    "PATCH /api/v1/discounts/<uuid:discount_id>": ADMINS_200,
    "GET /api/v1/orders": SIGNED_IN_200,
    "POST /api/v1/orders": (401, 201, 201, 401, 201, 201, 201, 201, 201, 403),
    "GET /api/v1/orders/export.csv": SIGNED_IN_200,
    "GET /api/v1/orders/<uuid:order_id>": (401, 200, 404, 401, 200, 200, 404, 200, 200, 403),
    "POST /api/v1/orders/<uuid:order_id>/pay": (
        401, 200, 404, 401, 404, 404, 404, 404, 404, 403,
    ),
    "POST /api/v1/orders/<uuid:order_id>/cancel": (
        401, 200, 404, 401, 404, 404, 404, 200, 200, 403,
    ),
    "POST /api/v1/orders/<uuid:order_id>/fulfil": ADMINS_200,
    "POST /api/v1/orders/<uuid:order_id>/refund": (
        401, 403, 403, 401, 403, 200, 403, 200, 200, 403,
    ),
    "GET /api/v1/products": ANYONE,
    "POST /api/v1/products": ADMINS_201,
    "GET /api/v1/products/<uuid:product_id>": ANYONE,
    "PATCH /api/v1/products/<uuid:product_id>": ADMINS_200,
    "POST /api/v1/users": (201,) * 10,
    "GET /api/v1/users": (401, 403, 403, 401, 200, 200, 200, 200, 200, 403),
    "GET /api/v1/users/<uuid:user_id>": (401, 200, 404, 401, 200, 200, 200, 200, 200, 403),
    "PUT /api/v1/users/<uuid:user_id>/roles": (
        401, 403, 403, 401, 403, 403, 403, 200, 200, 403,
    ),
    "POST /api/v1/users/<uuid:user_id>/suspend": (
        401, 403, 403, 401, 200, 403, 403, 200, 200, 403,
    ),
    "POST /api/v1/users/<uuid:user_id>/reinstate": (
        401, 403, 403, 401, 200, 403, 403, 200, 200, 403,
    ),
    "GET /api/v1/users/<uuid:user_id>/sessions": (
        401, 403, 403, 401, 200, 403, 403, 200, 403, 403,
    ),
    "DELETE /api/v1/users/<uuid:user_id>/sessions": (
        401, 403, 403, 401, 204, 403, 403, 204, 403, 403,
    ),
    "PUT /api/v1/users/<uuid:user_id>": (401, 403, 403, 401, 403, 403, 403, 200, 200, 403),
    "PATCH /api/v1/users/<uuid:user_id>": (401, 403, 403, 401, 403, 403, 403, 200, 200, 403),
    "POST /api/v1/users/<uuid:user_id>/password-reset": (
        401, 403, 403, 401, 403, 403, 403, 202, 403, 403,
    ),
    "DELETE /api/v1/users/<uuid:user_id>": (401, 403, 403, 401, 403, 403, 403, 202, 403, 403),
    "GET /api/v1/users/me": SIGNED_IN_200,
    "PATCH /api/v1/users/me": SIGNED_IN_200,
    "DELETE /api/v1/users/me": PEOPLE_202,
    "POST /api/v1/users/me/export": PEOPLE_202,
    "GET /api/v1/users/me/export/<uuid:export_id>": (
        401, 200, 404, 401, 404, 404, 404, 404, 403, 403,
    ),
    "PUT /api/v1/users/me/password": PEOPLE_204,
    "GET /api/v1/users/me/security-log": SIGNED_IN_200,
    "GET /api/v1/users/me/sessions": PEOPLE_200,
    "DELETE /api/v1/users/me/sessions": PEOPLE_204,
    "DELETE /api/v1/users/me/sessions/<uuid:session_id>": (
        401, 204, 404, 401, 404, 404, 404, 404, 403, 403,
    ),
    "GET /api/v1/webhooks": ADMINS_200,
    "POST /api/v1/webhooks": ADMINS_201,
    "DELETE /api/v1/webhooks/<uuid:webhook_id>": ADMINS_204,
    "GET /api/v1/webhooks/<uuid:webhook_id>": ADMINS_200,
    "PATCH /api/v1/webhooks/<uuid:webhook_id>": ADMINS_200,
    "GET /api/v1/webhooks/<uuid:webhook_id>/deliveries": ADMINS_200,
    "POST /api/v1/webhooks/<uuid:webhook_id>/deliveries/<uuid:delivery_id>/replay": (
        401, 403, 403, 401, 403, 403, 403, 202, 202, 403,
    ),
    "POST /api/v1/webhooks/<uuid:webhook_id>/rotate": ADMINS_201,
}  # fmt: skip

# Of staff who may, on whom: nobody acts on a user who holds a permission that they lack themselves.
ON_WHOM = ("user", "support", "finance", "service", "admin", "oneself")
STAFF = {
    ("POST /api/v1/credits/charges", "finance"): (201, 403, 201, 201, 403, 201),
    ("POST /api/v1/credits/charges", "service"): (201, 403, 403, 201, 403, 201),
    ("POST /api/v1/credits/charges", "admin"): (201,) * 6,
    ("POST /api/v1/credits/grants", "finance"): (201, 403, 201, 201, 403, 403),
    ("POST /api/v1/credits/grants", "admin"): (201, 201, 201, 201, 201, 403),
    ("POST /api/v1/credits/transfers/<uuid:transfer_id>/reverse", "finance"): (
        201, 403, 201, 201, 403, 403,
    ),
    ("POST /api/v1/credits/transfers/<uuid:transfer_id>/reverse", "admin"): (
        201, 201, 201, 201, 201, 403,
    ),
    ("POST /api/v1/orders/<uuid:order_id>/fulfil", "admin"): (200,) * 6,
    ("POST /api/v1/orders/<uuid:order_id>/refund", "finance"): (200, 403, 200, 200, 403, 403),
    ("POST /api/v1/orders/<uuid:order_id>/refund", "admin"): (200, 200, 200, 200, 200, 403),
    ("GET /api/v1/users/<uuid:user_id>/credits", "support"): (200,) * 6,
    ("GET /api/v1/users/<uuid:user_id>/credits", "finance"): (200,) * 6,
    ("GET /api/v1/users/<uuid:user_id>/credits", "service"): (200,) * 6,
    ("GET /api/v1/users/<uuid:user_id>/credits", "admin"): (200,) * 6,
    ("PUT /api/v1/users/<uuid:user_id>", "admin"): (200,) * 6,
    ("PATCH /api/v1/users/<uuid:user_id>", "admin"): (200,) * 6,
    ("DELETE /api/v1/users/<uuid:user_id>", "admin"): (202, 202, 202, 202, 202, 403),
    ("POST /api/v1/users/<uuid:user_id>/password-reset", "admin"): (202,) * 6,
    ("PUT /api/v1/users/<uuid:user_id>/roles", "admin"): (200, 200, 200, 200, 200, 200),
    ("POST /api/v1/users/<uuid:user_id>/suspend", "support"): (200, 200, 403, 403, 403, 403),
    ("POST /api/v1/users/<uuid:user_id>/suspend", "admin"): (200, 200, 200, 200, 200, 403),
    # Nobody is suspended and asks for it: what isn't suspended can't be reinstated.
    ("POST /api/v1/users/<uuid:user_id>/reinstate", "support"): (200, 200, 403, 403, 403, 409),
    ("POST /api/v1/users/<uuid:user_id>/reinstate", "admin"): (200, 200, 200, 200, 200, 409),
    ("GET /api/v1/users/<uuid:user_id>/sessions", "support"): (200,) * 6,
    ("GET /api/v1/users/<uuid:user_id>/sessions", "admin"): (200,) * 6,
    ("DELETE /api/v1/users/<uuid:user_id>/sessions", "support"): (204, 204, 403, 403, 403, 204),
    ("DELETE /api/v1/users/<uuid:user_id>/sessions", "admin"): (204,) * 6,
}  # fmt: skip
# Of everybody, for who may read users at all.
READ_ONE = "GET /api/v1/users/<uuid:user_id>"
