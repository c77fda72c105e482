"""French."""

from typing import Final

from edge.rules.pages.translations.translation import Translation

_TITLES: Final = {
    400: "Requête incorrecte",
    404: "Page introuvable",
    405: "Méthode non autorisée",
    408: "Délai de la requête dépassé",
    413: "Contenu trop volumineux",
    414: "Adresse trop longue",
    417: "Attente non satisfaite",
    421: "Requête mal dirigée",
    429: "Trop de requêtes",
    431: "En-têtes de la requête trop volumineux",
    501: "Non pris en charge",
    502: "Passerelle défaillante",
    503: "Service indisponible",
    504: "Délai de la passerelle dépassé",
    505: "Version HTTP non prise en charge",
    508: "Boucle détectée",
}
_SENTENCES: Final = {
    "bad_request": "La requête n'était pas conforme à HTTP/1.1 ou pouvait être lue de plusieurs façons.",
    "method_not_allowed": "Ce serveur ne transmet pas les requêtes de cette méthode.",
    "loop_detected": "La requête est passée plusieurs fois par ce serveur, car la route du site tourne en rond.",
    "empty_host": "La requête n'indiquait aucun site.",
    "host_not_covered": "Le certificat de cette connexion ne couvre pas ce site. Veuillez vous reconnecter.",
    "request_timeout": "La requête n'est pas arrivée à temps.",
    "body_too_large": "La requête contient plus de données que ce serveur n'en accepte.",
    "uri_too_long": "L'adresse est plus longue que ce serveur ne l'accepte.",
    "expectation_failed": "La requête attend quelque chose que ce serveur ne connaît pas.",
    "headers_too_large": "Les en-têtes de la requête sont trop volumineux. Supprimer les cookies peut aider.",
    "unknown_host": "Aucun site de ce nom n'existe ici.",
    "unknown_host_limit": "Vous avez demandé trop de sites inexistants. Veuillez patienter quelques secondes.",
    "no_backends": "Aucun serveur n'est disponible pour ce site actuellement.",
    "drained": "Ce site est momentanément hors service. Veuillez réessayer bientôt.",
    "lookup_failed": "L'emplacement de ce site n'a pas pu être déterminé. Veuillez réessayer bientôt.",
    "maintenance": "Ce site est en maintenance. Veuillez revenir plus tard.",
    "site_limit": "Ce site traite déjà autant de requêtes qu'il le peut. Veuillez réessayer dans un instant.",
    "client_limit": "Ce site reçoit beaucoup de visiteurs et vous avez de nombreuses requêtes en cours. "
    "Veuillez réessayer dans un instant.",
    "all_refused": "Tous les serveurs de ce site sont occupés. Veuillez réessayer dans un instant.",
    "edge_overloaded": "Ce serveur est surchargé. Veuillez réessayer dans un instant.",
    "edge_stopped": "Ce serveur est en cours de redémarrage. Veuillez réessayer dans un instant.",
    "connect_failed": "Aucun serveur de ce site n'a pu être joint.",
    "connect_timeout": "Aucun serveur de ce site n'a pu être joint à temps.",
    "misdirected": "Les serveurs de ce site ont été déplacés et leur nouvelle adresse n'est pas encore connue.",
    "closed_early": "Le serveur du site a fermé la connexion avant d'avoir répondu.",
    "bad_answer": "La réponse du site n'était pas conforme à HTTP.",
    "response_too_large": "Les en-têtes de la réponse du site sont plus volumineux que ce serveur ne l'accepte.",
    "first_byte_timeout": "Le site a mis trop de temps à répondre.",
    "cold_start_timeout": "Le serveur du site n'a pas démarré à temps.",
    "stalled": "Le site s'est arrêté au milieu de sa réponse.",
}
FRENCH: Final = Translation("fr", {"site": "Site", "reason": "Raison", "request": "Requête"}, _TITLES, _SENTENCES)
