"""What stays on disk: journal, segments, folder identity. Only `parquet` imports pyarrow."""
