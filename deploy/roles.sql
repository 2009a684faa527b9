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
