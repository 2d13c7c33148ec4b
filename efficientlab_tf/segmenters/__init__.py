"""Everything that answers adapt(support set).predict(queries)."""
