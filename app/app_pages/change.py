"""Change: predicted scenes on a map."""

from app.panels.prediction_view import prediction_page

prediction_page("change")
