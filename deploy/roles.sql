-- Run once by the PostgreSQL image, on an empty data folder, as the superuser.
-- The owner makes and changes the tables; the service's role owns nothing and gets its rights from the migrations.
\getenv owner_password BURSAR_OWNER_PASSWORD
\getenv app_password BURSAR_APP_PASSWORD

CREATE ROLE bursar_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE bursar_app LOGIN PASSWORD :'app_password';
CREATE DATABASE bursar OWNER bursar_owner;

-- Nobody else may connect, and nobody but the owner may create anything.
REVOKE ALL ON DATABASE bursar FROM PUBLIC;
GRANT CONNECT ON DATABASE bursar TO bursar_app;

-- Each connection of the service brings these limits by itself, but not through a pooler in transaction mode
-- (APP_DATABASE_POOLER): there the role has to. On a database that exists already they are set by hand, once.
ALTER ROLE bursar_app IN DATABASE bursar SET timezone = 'UTC';
ALTER ROLE bursar_app IN DATABASE bursar SET default_transaction_isolation = 'read committed';
ALTER ROLE bursar_app IN DATABASE bursar SET lock_timeout = '3s';
ALTER ROLE bursar_app IN DATABASE bursar SET statement_timeout = '10s';
ALTER ROLE bursar_app IN DATABASE bursar SET idle_in_transaction_session_timeout = '15s';
ALTER ROLE bursar_app IN DATABASE bursar SET client_connection_check_interval = '5s';
