-- Runs once, in an empty server: a database and its owner for Airflow, and for the dataset store.
\getenv airflow_password AIRFLOW_DB_PASSWORD
\getenv datasets_password DATASETS_DB_PASSWORD
CREATE ROLE airflow LOGIN PASSWORD :'airflow_password';
CREATE DATABASE airflow OWNER airflow;
CREATE ROLE datasets LOGIN PASSWORD :'datasets_password';
CREATE DATABASE datasets OWNER datasets;
REVOKE CONNECT ON DATABASE airflow, datasets FROM PUBLIC;
