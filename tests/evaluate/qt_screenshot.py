"""Open PAGE in Chromium's engine (QtWebEngine), without network, and save what it shows as PICTURE.

``python qt_screenshot.py PAGE PICTURE``: prints the figures shown, the figures in the page and the
files it asked for; exit code 77 where the engine cannot be loaded.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ["QTWEBENGINE_CHROMIUM_FLAGS"] = "--no-sandbox --disable-gpu --proxy-server=127.0.0.1:9"
try:
    from PyQt6.QtCore import QTimer, QUrl
    from PyQt6.QtWebEngineWidgets import QWebEngineView
    from PyQt6.QtWidgets import QApplication
except ImportError as error:
    print(error)
    sys.exit(77)

COUNT = """
const shown = [...document.images].filter(i => i.complete && i.naturalWidth > 0).length;
[shown, document.images.length, performance.getEntriesByType('resource').length].join(' ')
"""
application = QApplication(sys.argv[:1])
view = QWebEngineView()
view.resize(1200, 1800)
view.show()


def photograph() -> None:
    view.grab().save(sys.argv[2])
    view.page().runJavaScript(COUNT, lambda counts: (print(counts), application.quit()))


view.loadFinished.connect(lambda loaded: QTimer.singleShot(3000, photograph))
view.load(QUrl.fromLocalFile(str(Path(sys.argv[1]).resolve())))
QTimer.singleShot(100_000, lambda: application.exit(3))
sys.exit(application.exec())
