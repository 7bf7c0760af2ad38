-- Run once, when the database folder is new. Two databases: both servers keep their schema's version in a table of the
-- same name.
CREATE DATABASE prefect;
CREATE DATABASE mlflow;
